"""The CUDA device on cuda-python, against a stand-in for it: which call, which order of arguments, which error."""

from __future__ import annotations

import ctypes
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.runtime.engines.kernel_arguments import GIVEN, KINDS, arguments_at
from vlj_edge.errors import VljEdgeError
from vlj_edge.runtime.engines.tensorrt import cuda_python_device
from vlj_edge.runtime.engines.tensorrt.device import Buffer

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
    with pytest.raises(VljEdgeError, match=r"12\.0 MB.* 5 MB"):
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
