"""The CUDA device on PyCUDA, against a stand-in for it: which call, which order of arguments, which error."""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Callable, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.runtime.engines.kernel_arguments import GIVEN, KINDS, arguments_at
from vlj_edge.errors import VljEdgeError
from vlj_edge.runtime.engines.tensorrt import pycuda_device
from vlj_edge.runtime.engines.tensorrt.device import Buffer


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
    with pytest.raises(VljEdgeError, match=r"12\.0 MB.* 5 MB"):
        device.allocate(12_000_000)

    def lost() -> None:
        raise fake.LaunchError("cuEventSynchronize failed: an illegal memory access (ILLEGAL_ADDRESS)")

    with pytest.raises(VljEdgeError, match="the card was lost"):
        device.wait(SimpleNamespace(synchronize=lost))
    library.status = 901
    with pytest.raises(VljEdgeError, match="STREAM_CAPTURE_INVALIDATED from cuStreamEndCapture"):
        device.end_capture(77)
