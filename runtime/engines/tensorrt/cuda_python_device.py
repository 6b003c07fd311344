"""The device, implemented with cuda-python (cuda.bindings.driver), NVIDIA's own package. See device.Device."""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from vlj_edge.errors import VljEdgeError

from .device import Arguments, Buffer, kernel_arguments, nbytes, raise_driver_error


class CudaPythonDevice:
    """The first card. Its primary context is made current, which TensorRT uses as well. See Device."""

    def __init__(self) -> None:
        self._cu: Any = importlib.import_module("cuda.bindings.driver")
        self._call("starting CUDA", "cuInit", 0)
        if not self._call("counting cards", "cuDeviceGetCount"):
            raise VljEdgeError("there is no NVIDIA card in this machine: run with --backend onnxruntime")
        card = self._call("opening the card", "cuDeviceGet", 0)
        self._context = self._call("opening the card", "cuDevicePrimaryCtxRetain", card)
        self.use()
        name = self._call("asking for the card's name", "cuDeviceGetName", 256, card)
        self.name = name.split(b"\0")[0].decode(errors="replace").strip()
        attribute = self._cu.CUdevice_attribute
        major, minor = (
            self._call("asking what the card is", "cuDeviceGetAttribute", which, card)
            for which in (
                attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
                attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
            )
        )
        self.sm = f"sm{major}{minor}"

    def use(self) -> None:
        self._call("entering a thread", "cuCtxSetCurrent", self._context)

    def free_memory(self) -> int:
        return int(self._call("asking for free memory", "cuMemGetInfo")[0])

    def allocate(self, size: int) -> Buffer:
        address = self._call(f"{size / 1e6:.1f} MB", "cuMemAlloc", max(size, 1))
        self._call("clearing memory", "cuMemsetD8", address, 0, max(size, 1))
        # It is queued on the default stream, for which our streams do not wait.
        self._call("clearing memory", "cuStreamSynchronize", 0)
        return Buffer(int(address), size)

    def free(self, buffer: Buffer) -> None:
        address, buffer.address = buffer.address, 0
        if address:
            self._call("freeing memory", "cuMemFree", address)

    def pinned(self, shape: Sequence[int], dtype: Any) -> npt.NDArray[Any]:
        size = max(nbytes(shape, np.dtype(dtype).itemsize), 1)
        address = int(self._call(f"{size / 1e6:.1f} MB of pinned host memory", "cuMemHostAlloc", size, 0))
        raw = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))  # never freed
        raw[...] = 0
        array: npt.NDArray[Any] = raw[: nbytes(shape, np.dtype(dtype).itemsize)].view(dtype).reshape(shape)
        return array

    def stream(self) -> int:
        flags = self._cu.CUstream_flags.CU_STREAM_NON_BLOCKING
        return int(self._call("making a stream", "cuStreamCreate", flags))

    def synchronise(self, stream: int) -> None:
        self._call("waiting for the card", "cuStreamSynchronize", stream)

    def copy_in(self, buffer: Buffer, array: npt.NDArray[Any], stream: int) -> None:
        self._call("copying", "cuMemcpyHtoDAsync", buffer.address, array.ctypes.data, array.nbytes, stream)

    def copy_out(self, array: npt.NDArray[Any], buffer: Buffer, stream: int) -> None:
        self._call("copying", "cuMemcpyDtoHAsync", array.ctypes.data, buffer.address, array.nbytes, stream)

    def copy(self, target: Buffer, source: Buffer, stream: int) -> None:
        self._call("copying", "cuMemcpyDtoDAsync", target.address, source.address, source.size, stream)

    def event(self) -> Any:
        return self._call("making an event", "cuEventCreate", 0)

    def record(self, event: Any, stream: int) -> None:
        self._call("queueing an event", "cuEventRecord", event, stream)

    def wait(self, event: Any) -> None:
        self._call("waiting for the card", "cuEventSynchronize", event)

    def milliseconds(self, first: Any, second: Any) -> float:
        return float(self._call("timing", "cuEventElapsedTime", first, second))

    def begin_capture(self, stream: int) -> None:
        mode = self._cu.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        self._call("capturing a graph", "cuStreamBeginCapture", stream, mode)

    def end_capture(self, stream: int) -> Any:
        graph = self._call("capturing a graph", "cuStreamEndCapture", stream)
        return self._call("making a graph", "cuGraphInstantiate", graph, 0)

    def launch(self, graph: Any, stream: int) -> None:
        self._call("launching a graph", "cuGraphLaunch", graph, stream)

    def load_kernel(self, code: bytes, name: str) -> Any:
        module = self._call("loading a kernel", "cuModuleLoadData", code)
        return self._call("loading a kernel", "cuModuleGetFunction", module, name.encode())

    def start(self, kernel: Any, grid: tuple[int, int, int], threads: int, arguments: Arguments, stream: int) -> None:
        pointers, _values = kernel_arguments(arguments)
        shape = (*grid, threads, 1, 1, 0)  # no dynamic shared memory
        self._call("starting a kernel", "cuLaunchKernel", kernel, *shape, stream, ctypes.addressof(pointers), 0)

    def _call(self, doing: str, name: str, *arguments: Any) -> Any:
        """One driver call: cuda.bindings returns (status, results...)."""
        status, *results = getattr(self._cu, name)(*arguments)
        if int(status) != 0:
            free = self.free_memory() if name in ("cuMemAlloc", "cuMemHostAlloc") else None
            raise_driver_error(doing, f"{status.name} from {name}", free)
        return results[0] if len(results) == 1 else results


def open_device() -> CudaPythonDevice:
    """See device.open_device."""
    return CudaPythonDevice()
