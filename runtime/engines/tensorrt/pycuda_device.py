"""The device, implemented with pycuda. See device.Device.

pycuda (2026.1) has no CUDA graphs, so their functions are called in the driver's library. So are the functions that
start kernels, for which pycuda needs every argument's type, and the one that makes the card current in a thread:
pycuda's own aborts the process when the thread ends (see PycudaDevice._make).
"""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from vlj_edge.errors import VljEdgeError

from .device import Arguments, Buffer, kernel_arguments, raise_driver_error

_THREAD_LOCAL = 1  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
Result = TypeVar("Result")


class PycudaDevice:
    """The first card. Its primary context is made current, which TensorRT uses as well. See Device."""

    def __init__(self) -> None:
        self._cuda: Any = importlib.import_module("pycuda.driver")
        self._cuda.init()
        if not self._cuda.Device.count():
            raise VljEdgeError("there is no NVIDIA card in this machine: run with --backend onnxruntime")
        card = self._cuda.Device(0)
        self._context = card.retain_primary_context()
        self._driver = ctypes.CDLL("libcuda.so.1")
        self.use()
        self.name = str(card.name()).strip()
        major, minor = card.compute_capability()
        self.sm = f"sm{major}{minor}"
        self._streams: dict[int, Any] = {}  # pycuda needs its own objects, and destroys a stream with the last of them
        self._allocations: dict[int, Any] = {}

    def use(self) -> None:
        self._call("entering a thread", "cuCtxSetCurrent", ctypes.c_void_p(self._context.handle))

    def free_memory(self) -> int:
        return int(self._cuda.mem_get_info()[0])

    def allocate(self, size: int) -> Buffer:
        def allocate() -> Buffer:
            memory = self._cuda.mem_alloc(max(size, 1))
            self._cuda.memset_d8(int(memory), 0, max(size, 1))
            self._allocations[int(memory)] = memory
            return Buffer(int(memory), size)

        return self._make(f"{size / 1e6:.1f} MB", allocate)

    def free(self, buffer: Buffer) -> None:
        address, buffer.address = buffer.address, 0
        if address:
            self._make("freeing memory", self._allocations.pop(address).free)

    def pinned(self, shape: Sequence[int], dtype: Any) -> npt.NDArray[Any]:
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        array: npt.NDArray[Any] = self._make(
            f"{size / 1e6:.1f} MB of pinned host memory", lambda: self._cuda.pagelocked_zeros(tuple(shape), dtype)
        )
        return array

    def stream(self) -> int:
        stream = self._make("making a stream", self._cuda.Stream)
        self._streams[int(stream.handle)] = stream
        return int(stream.handle)

    def synchronise(self, stream: int) -> None:
        self._do("waiting for the card", self._streams[stream].synchronize)

    def copy_in(self, buffer: Buffer, array: npt.NDArray[Any], stream: int) -> None:
        self._do("copying", lambda: self._cuda.memcpy_htod_async(buffer.address, array, self._streams[stream]))

    def copy_out(self, array: npt.NDArray[Any], buffer: Buffer, stream: int) -> None:
        self._do("copying", lambda: self._cuda.memcpy_dtoh_async(array, buffer.address, self._streams[stream]))

    def copy(self, target: Buffer, source: Buffer, stream: int) -> None:
        arguments = (target.address, source.address, source.size, self._streams[stream])
        self._do("copying", lambda: self._cuda.memcpy_dtod_async(*arguments))

    def event(self) -> Any:
        return self._make("making an event", self._cuda.Event)

    def record(self, event: Any, stream: int) -> None:
        self._do("queueing an event", lambda: event.record(self._streams[stream]))

    def wait(self, event: Any) -> None:
        self._do("waiting for the card", event.synchronize)

    def milliseconds(self, first: Any, second: Any) -> float:
        return float(self._do("timing", lambda: second.time_since(first)))

    def begin_capture(self, stream: int) -> None:
        self._call("capturing a graph", "cuStreamBeginCapture_v2", ctypes.c_void_p(stream), _THREAD_LOCAL)

    def end_capture(self, stream: int) -> Any:
        graph, ready = ctypes.c_void_p(), ctypes.c_void_p()
        self._call("capturing a graph", "cuStreamEndCapture", ctypes.c_void_p(stream), ctypes.byref(graph))
        flags = ctypes.c_ulonglong(0)
        self._call("making a graph", "cuGraphInstantiateWithFlags", ctypes.byref(ready), graph, flags)
        self._call("making a graph", "cuGraphDestroy", graph)  # the executable graph does not need it
        return ready

    def launch(self, graph: Any, stream: int) -> None:
        self._call("launching a graph", "cuGraphLaunch", graph, ctypes.c_void_p(stream))

    def load_kernel(self, code: bytes, name: str) -> Any:
        module, kernel = ctypes.c_void_p(), ctypes.c_void_p()
        self._call("loading a kernel", "cuModuleLoadData", ctypes.byref(module), ctypes.c_char_p(code))
        self._call("loading a kernel", "cuModuleGetFunction", ctypes.byref(kernel), module, name.encode())
        return kernel

    def start(self, kernel: Any, grid: tuple[int, int, int], threads: int, arguments: Arguments, stream: int) -> None:
        pointers, _values = kernel_arguments(arguments)
        shape = (*grid, threads, 1, 1, 0)  # no dynamic shared memory
        self._call("starting a kernel", "cuLaunchKernel", kernel, *shape, ctypes.c_void_p(stream), pointers, None)

    def _make(self, doing: str, action: Callable[[], Result]) -> Result:
        """Create or free a pycuda object, with the context on pycuda's own stack of this thread. It must not stay
        there: pycuda aborts the process when a thread ends with a context on its stack."""

        def with_context() -> Result:
            self._context.push()
            try:
                return action()
            finally:
                self._context.pop()

        return self._do(doing, with_context)

    def _do(self, doing: str, action: Callable[[], Result]) -> Result:
        try:
            return action()
        except self._cuda.Error as error:  # pycuda.driver.Error: MemoryError, LaunchError, RuntimeError, LogicError
            free = self.free_memory() if isinstance(error, self._cuda.MemoryError) else None
            raise_driver_error(doing, f"{type(error).__name__}: {error}", free)

    def _call(self, doing: str, name: str, *arguments: Any) -> None:
        status = getattr(self._driver, name)(*arguments)
        if status:
            text = ctypes.c_char_p()
            self._driver.cuGetErrorName(status, ctypes.byref(text))
            raise_driver_error(doing, f"{(text.value or b'?').decode()} from {name}")


def open_device() -> PycudaDevice:
    """See device.open_device."""
    return PycudaDevice()
