"""The two CUDA packages behind the device module, replaced by fakes: calls, order of arguments, errors."""

from __future__ import annotations

import ctypes
import importlib.util
import re
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from vlj_edge.errors import VljEdgeError
from vlj_edge.runtime.engines.tensorrt import cuda_python_device, pycuda_device
from vlj_edge.runtime.engines.tensorrt import device as devices
from vlj_edge.runtime.engines.tensorrt.device import Buffer, open_device, raise_driver_error

USED = set(re.findall(r'"(cu[A-Z]\w+)"', Path(cuda_python_device.__file__).read_text(encoding="utf-8")))
NAMES = {0: "CUDA_SUCCESS", 1: "CUDA_ERROR_INVALID", 2: "CUDA_ERROR_OUT_OF_MEMORY", 700: "CUDA_ERROR_ILLEGAL_ADDRESS"}


class Status(int):
    """A CUresult."""

    @property
    def name(self) -> str:
        return NAMES[int(self)]


class FakeDriver(ModuleType):
    """cuda.bindings.driver: every function returns (status, results...); `calls` has what was called."""

    def __init__(self) -> None:
        super().__init__("cuda.bindings.driver")
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.failing: dict[str, int] = {}
        self.keep: list[Any] = []
        self.CUdevice_attribute = SimpleNamespace(
            CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR="major", CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR="minor"
        )
        self.CUstream_flags = SimpleNamespace(CU_STREAM_NON_BLOCKING=1)
        self.CUstreamCaptureMode = SimpleNamespace(CU_STREAM_CAPTURE_MODE_THREAD_LOCAL=1)

    def __getattr__(self, name: str) -> Any:
        if name not in USED:
            raise AttributeError(name)

        def call(*arguments: Any) -> tuple[Any, ...]:
            self.calls.append((name, arguments))
            status = Status(self.failing.get(name, 0))
            return (status, *self.results(name, arguments))

        return call

    def results(self, name: str, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        if name == "cuMemHostAlloc":
            memory = ctypes.create_string_buffer(b"\xff" * arguments[0])
            self.keep.append(memory)
            return (ctypes.addressof(memory),)
        if name == "cuDeviceGetAttribute":
            return (8 if arguments[0] == "major" else 7,)
        named = {
            "cuDeviceGetCount": (1,),
            "cuDeviceGet": ("card",),
            "cuDevicePrimaryCtxRetain": ("context",),
            "cuDeviceGetName": (b"Orin\0\0\0",),
            "cuMemGetInfo": (5_000_000, 8_000_000),
            "cuMemAlloc": (4096,),
            "cuStreamCreate": (77,),
            "cuEventCreate": ("event",),
            "cuEventElapsedTime": (1.5,),
            "cuStreamEndCapture": ("graph",),
            "cuGraphInstantiate": ("ready graph",),
            "cuModuleLoadData": ("module",),
            "cuModuleGetFunction": ("kernel",),
        }
        return named.get(name, ())


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> FakeDriver:
    fake = FakeDriver()
    for name in ("cuda", "cuda.bindings"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "cuda.bindings.driver", fake)
    return fake


def test_cuda_python(driver: FakeDriver) -> None:
    device = cuda_python_device.open_device()
    assert (device.name, device.sm, device.free_memory()) == ("Orin", "sm87", 5_000_000)
    assert ("cuCtxSetCurrent", ("context",)) in driver.calls
    buffer, other = device.allocate(12), Buffer(64, 8)
    array = device.pinned((2, 3), np.float16)
    assert buffer == Buffer(4096, 12) and array.shape == (2, 3) and not array.any() and array.flags.writeable
    calls = [call for call in driver.calls if call[0].startswith(("cuMem", "cuStream")) and call[0] != "cuMemGetInfo"]
    assert calls == [
        ("cuMemAlloc", (12,)),
        ("cuMemsetD8", (4096, 0, 12)),
        ("cuStreamSynchronize", (0,)),  # clearing is queued on the default stream, for which ours do not wait
        ("cuMemHostAlloc", (12, 0)),
    ]
    stream = device.stream()
    assert driver.calls[-1] == ("cuStreamCreate", (1,)), "one that does not wait for the default stream"
    driver.calls.clear()
    device.copy_in(buffer, array, stream)
    device.copy_out(array, buffer, stream)
    device.copy(buffer, other, stream)
    device.begin_capture(stream)
    device.launch(device.end_capture(stream), stream)
    device.record(device.event(), stream)
    host = array.ctypes.data
    assert driver.calls == [
        ("cuMemcpyHtoDAsync", (4096, host, 12, 77)),
        ("cuMemcpyDtoHAsync", (host, 4096, 12, 77)),
        ("cuMemcpyDtoDAsync", (4096, 64, 8, 77)),
        ("cuStreamBeginCapture", (77, 1)),
        ("cuStreamEndCapture", (77,)),
        ("cuGraphInstantiate", ("graph", 0)),
        ("cuGraphLaunch", ("ready graph", 77)),
        ("cuEventCreate", (0,)),
        ("cuEventRecord", ("event", 77)),
    ]
    device.free(buffer)
    assert driver.calls[-1] == ("cuMemFree", (4096,)) and buffer.address == 0


def arguments_at(address: int, kinds: list[Any]) -> list[Any]:
    """What cuLaunchKernel would read there."""
    listed = (ctypes.c_void_p * len(kinds)).from_address(address)
    return [kind.from_address(at or 0).value for kind, at in zip(kinds, listed, strict=True)]


KINDS = [ctypes.c_void_p, ctypes.c_int32, ctypes.c_int32, ctypes.c_void_p]
GIVEN = (Buffer(4096, 12).part(8, 4), 7, -1, None)


def test_cuda_python_starts_kernels(driver: FakeDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Any] = []
    real = FakeDriver.results

    def results(self: FakeDriver, name: str, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        if name == "cuLaunchKernel":
            read.extend(arguments_at(arguments[9], KINDS))
        return real(self, name, arguments)

    monkeypatch.setattr(FakeDriver, "results", results)
    device = cuda_python_device.open_device()
    driver.calls.clear()
    device.start(device.load_kernel(b"code", "twice"), (3, 2, 1), 128, GIVEN, 77)
    assert driver.calls[:2] == [("cuModuleLoadData", (b"code",)), ("cuModuleGetFunction", ("module", b"twice"))]
    name, arguments = driver.calls[2]
    assert name == "cuLaunchKernel" and arguments[:9] == ("kernel", 3, 2, 1, 128, 1, 1, 0, 77) and arguments[10] == 0
    assert read == [4104, 7, -1, None]


def test_cuda_python_s_errors(driver: FakeDriver) -> None:
    device = cuda_python_device.open_device()
    driver.failing = {"cuMemAlloc": 2, "cuEventSynchronize": 700, "cuStreamEndCapture": 1}
    with pytest.raises(VljEdgeError, match=r"no memory left for 12\.0 MB; 5 MB are free"):
        device.allocate(12_000_000)
    with pytest.raises(VljEdgeError, match="the card was lost while waiting"):
        device.wait("event")
    with pytest.raises(VljEdgeError, match="refused while capturing a graph"):
        device.end_capture(77)


def test_a_machine_without_a_card(driver: FakeDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeDriver, "results", lambda self, name, arguments: (0,))
    with pytest.raises(VljEdgeError, match="no NVIDIA card"):
        cuda_python_device.open_device()


@pytest.mark.skipif(
    importlib.util.find_spec("cuda") is None or importlib.util.find_spec("cuda.bindings") is None,
    reason="cuda-python is not installed",
)
def test_the_real_cuda_python_has_every_function_that_is_called() -> None:
    real = importlib.import_module("cuda.bindings.driver")
    arguments = {name: (getattr(real, name).__doc__ or "").splitlines()[0].count(",") + 1 for name in USED}
    assert arguments["cuMemcpyHtoDAsync"] == 4 and arguments["cuStreamBeginCapture"] == 2
    assert arguments["cuGraphInstantiate"] == 2 and arguments["cuMemHostAlloc"] == 2
    assert real.CUstream_flags.CU_STREAM_NON_BLOCKING and real.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL


class FakePycuda(ModuleType):
    """pycuda.driver."""

    class Error(Exception):
        pass

    class MemoryError(Error):
        pass

    class LaunchError(Error):
        pass

    def __init__(self) -> None:
        super().__init__("pycuda.driver")
        self.calls: list[tuple[Any, ...]] = []
        self.stacks: dict[int, int] = {}  # thread -> contexts on pycuda's own stack, which must be empty at its end
        context = SimpleNamespace(push=lambda: self.stack(1), pop=lambda: self.stack(-1), handle=0xC0)
        card = SimpleNamespace(
            retain_primary_context=lambda: context, name=lambda: "Orin", compute_capability=lambda: (8, 7)
        )
        self.Device: Any = type("Device", (), {"__new__": lambda cls, number: card, "count": staticmethod(lambda: 1)})
        self.Stream: Any = lambda: self.made(
            SimpleNamespace(handle=77, synchronize=lambda: self.calls.append(("synchronize",)))
        )
        self.Event: Any = lambda: self.made(
            SimpleNamespace(
                record=lambda stream: self.calls.append(("record", stream.handle)),
                synchronize=lambda: self.calls.append(("event synchronize",)),
                time_since=lambda first: 1.5,
            )
        )

    def stack(self, change: int) -> None:
        me = threading.get_ident()
        self.stacks[me] = self.stacks.get(me, 0) + change
        assert self.stacks[me] >= 0, "cannot pop context from empty stack"

    def made(self, thing: Any) -> Any:
        """pycuda's objects remember the context on top of its stack, whatever CUDA's own says."""
        if not self.stacks.get(threading.get_ident()):
            raise self.Error("explicit_context_dependent failed: invalid device context - no currently active context?")
        return thing

    def init(self) -> None:
        self.calls.append(("init",))

    def mem_get_info(self) -> tuple[int, int]:
        return 5_000_000, 8_000_000

    def mem_alloc(self, size: int) -> Any:
        if size > 5_000_000:
            raise self.MemoryError("cuMemAlloc failed: out of memory")

        class Memory(int):
            def free(memory) -> None:
                self.calls.append(("free", int(memory)))

        return self.made(Memory(4096))

    def memset_d8(self, address: int, value: int, size: int) -> None:
        self.calls.append(("memset", address, value, size))

    def pagelocked_zeros(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        return np.asarray(self.made(np.zeros(shape, dtype)))

    def memcpy_htod_async(self, address: int, array: Any, stream: Any) -> None:
        self.calls.append(("in", address, array.nbytes, stream.handle))

    def memcpy_dtoh_async(self, array: Any, address: int, stream: Any) -> None:
        self.calls.append(("out", address, array.nbytes, stream.handle))

    def memcpy_dtod_async(self, to: int, given: int, size: int, stream: Any) -> None:
        self.calls.append(("copy", to, given, size, stream.handle))


class FakeLibcuda:
    """libcuda.so.1 as ctypes shows it."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.current: dict[int, int] = {}
        self.status = 0

    def __getattr__(self, name: str) -> Callable[..., int]:
        def call(*arguments: Any) -> int:
            given = [getattr(one, "_obj", one) for one in arguments]  # what byref() points to
            self.calls.append((name, *(getattr(one, "value", one) for one in given)))
            if name == "cuCtxSetCurrent":
                self.current[threading.get_ident()] = given[0].value
            if name == "cuStreamEndCapture":
                given[1].value = 0x61
            if name == "cuGraphInstantiateWithFlags":
                given[0].value = 0x62
            if name == "cuGetErrorName":
                arguments[1]._obj.value = b"CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"
                return 0
            return self.status

        return call


@pytest.fixture
def pycuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[FakePycuda, FakeLibcuda]]:
    fake, library = FakePycuda(), FakeLibcuda()
    monkeypatch.setitem(sys.modules, "pycuda", ModuleType("pycuda"))
    monkeypatch.setitem(sys.modules, "pycuda.driver", fake)
    monkeypatch.setattr(pycuda_device.ctypes, "CDLL", lambda name: library)
    yield fake, library


def test_pycuda(pycuda: tuple[FakePycuda, FakeLibcuda]) -> None:
    fake, library = pycuda
    device = pycuda_device.open_device()
    assert (device.name, device.sm, device.free_memory()) == ("Orin", "sm87", 5_000_000)
    assert library.calls == [("cuCtxSetCurrent", 0xC0)], "TensorRT finds the primary context current"
    buffer, other = device.allocate(12), Buffer(64, 8)
    array, stream = device.pinned((2, 3), np.float16), device.stream()
    assert fake.calls == [("init",), ("memset", 4096, 0, 12)]
    fake.calls.clear()
    device.copy_in(buffer, array, stream)
    device.copy_out(array, buffer, stream)
    device.copy(buffer, other, stream)
    device.record(device.event(), stream)
    device.synchronise(stream)
    device.free(buffer)
    assert fake.calls == [
        ("in", 4096, 12, 77),
        ("out", 4096, 12, 77),
        ("copy", 4096, 64, 8, 77),
        ("record", 77),
        ("synchronize",),
        ("free", 4096),
    ]
    library.calls.clear()
    device.begin_capture(stream)
    device.launch(device.end_capture(stream), stream)
    assert library.calls == [
        ("cuStreamBeginCapture_v2", 77, 1),
        ("cuStreamEndCapture", 77, None),
        ("cuGraphInstantiateWithFlags", None, 0x61, 0),
        ("cuGraphDestroy", 0x61),
        ("cuGraphLaunch", 0x62, 77),
    ]


def test_pycuda_starts_kernels(pycuda: tuple[FakePycuda, FakeLibcuda]) -> None:
    _, library = pycuda
    device = pycuda_device.open_device()
    library.calls.clear()
    read: list[Any] = []
    kernel = device.load_kernel(b"code", "twice")
    assert library.calls == [("cuModuleLoadData", None, b"code"), ("cuModuleGetFunction", None, None, b"twice")]

    def launch(*arguments: Any) -> int:
        read.extend(arguments_at(ctypes.addressof(arguments[9]), KINDS))
        read.append([getattr(one, "value", one) for one in (*arguments[1:9], arguments[10])])
        return 0

    library.cuLaunchKernel = launch  # type: ignore[attr-defined]
    device.start(kernel, (3, 2, 1), 128, GIVEN, 77)
    assert read == [4104, 7, -1, None, [3, 2, 1, 128, 1, 1, 0, 77, None]]


def test_pycuda_in_threads_that_end(pycuda: tuple[FakePycuda, FakeLibcuda]) -> None:
    fake, library = pycuda
    device = pycuda_device.open_device()
    failures: list[BaseException] = []

    def work() -> None:
        try:
            device.use()
            device.free(device.allocate(12))
            device.pinned((2,), np.int64)
            stream, first, last = device.stream(), device.event(), device.event()
            device.record(last, stream)
            device.wait(last)
            assert device.milliseconds(first, last) == 1.5
            with pytest.raises(VljEdgeError, match="no memory left"):
                device.allocate(12_000_000)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not failures, failures
    assert set(library.current.values()) == {0xC0} and len(library.current) == 2
    assert not any(fake.stacks.values()), "pycuda aborts the process when a thread ends with a context on its stack"


def test_pycuda_s_errors(pycuda: tuple[FakePycuda, FakeLibcuda], monkeypatch: pytest.MonkeyPatch) -> None:
    fake, library = pycuda
    device = pycuda_device.open_device()
    with pytest.raises(VljEdgeError, match=r"no memory left for 12\.0 MB; 5 MB are free"):
        device.allocate(12_000_000)

    def lost() -> None:
        raise fake.LaunchError("cuEventSynchronize failed: an illegal memory access (ILLEGAL_ADDRESS)")

    with pytest.raises(VljEdgeError, match="the card was lost"):
        device.wait(SimpleNamespace(synchronize=lost))
    library.status = 901
    with pytest.raises(VljEdgeError, match="STREAM_CAPTURE_INVALIDATED from cuStreamEndCapture"):
        device.end_capture(77)


def test_pycuda_is_preferred_and_neither_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def module(name: str, package: str) -> Any:
        opened.append(name)
        return SimpleNamespace(open_device=lambda: name)

    monkeypatch.setattr(devices.importlib, "import_module", module)
    for there, expected in (
        (("pycuda", "cuda.bindings"), ".pycuda_device"),
        (("cuda.bindings",), ".cuda_python_device"),
    ):
        monkeypatch.setattr(devices, "is_installed", there.__contains__)
        open_device.cache_clear()
        assert open_device() == expected
    monkeypatch.setattr(devices, "is_installed", lambda name: False)
    open_device.cache_clear()
    with pytest.raises(VljEdgeError, match=r"vlj-edge\[tensorrt\]"):
        open_device()
    open_device.cache_clear()


def test_a_package_that_does_not_work_is_named_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str, package: str) -> Any:
        raise ImportError("libcurand.so.10:\ncannot open shared object file")

    monkeypatch.setattr(devices, "is_installed", lambda name: True)
    monkeypatch.setattr(devices.importlib, "import_module", broken)
    open_device.cache_clear()
    with pytest.raises(VljEdgeError, match=r"pycuda is installed and cannot reach a card \(libcurand\.so\.10: cannot"):
        open_device()
    open_device.cache_clear()


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ("CUDA_ERROR_OUT_OF_MEMORY from cuMemAlloc", "no memory left"),
        ("MemoryError: cuMemAlloc failed: out of memory", "no memory left"),
        ("CUDA_ERROR_LAUNCH_FAILED from cuStreamSynchronize", "the card was lost"),
        ("LaunchError: cuStreamSynchronize failed: unspecified launch failure", "the card was lost"),
        ("LaunchError: cuEventSynchronize failed: an illegal memory access was encountered", "the card was lost"),
        ("LaunchError: cuEventSynchronize failed: the launch timed out and was terminated", "the card was lost"),
        ("CUDA_ERROR_LAUNCH_TIMEOUT from cuEventSynchronize", "the card was lost"),
        ("LogicError: cuEventSynchronize failed: invalid program counter", "the card was lost"),
        ("LogicError: cuEventSynchronize failed: misaligned address", "the card was lost"),
        ("LogicError: cuEventSynchronize failed: device-side assert triggered", "the card was lost"),
        ("RuntimeError: cuEventSynchronize failed: uncorrectable ECC error encountered", "the card was lost"),
        ("CUDA_ERROR_INVALID_VALUE from cuMemcpyHtoDAsync", "the card refused while copying"),
    ],
)
def test_errors_are_one_line_that_says_what_to_do(error: str, message: str) -> None:
    with pytest.raises(VljEdgeError, match=message) as raised:
        raise_driver_error("copying", error, 1_000_000)
    assert "\n" not in str(raised.value)
