"""The Device protocol: the parts of CUDA that the TensorRT backend uses (memory, streams, events, graphs, kernels).

It is implemented with pycuda, and with cuda-python if pycuda is not installed. Nothing else uses these packages.
"""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NoReturn, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from vlj_edge.errors import VljEdgeError
from vlj_edge.tensorrt_package import is_installed

# module of the package -> module of ours, in the order of preference
_IMPLEMENTATIONS = {"pycuda": ".pycuda_device", "cuda.bindings": ".cuda_python_device"}
# Errors after which the context is lost and every further call fails (CUresult of the CUDA driver API), and pycuda's
# wordings of some of them.
_LOST = (
    *("ILLEGAL_ADDRESS", "ILLEGAL_MEMORY", "ILLEGAL_INSTRUCTION", "MISALIGNED", "ADDRESS_SPACE", "INVALID_PC"),
    *("LAUNCH_FAILED", "LAUNCH_FAILURE", "LAUNCH_TIMEOUT", "LAUNCH_TIMED_OUT", "HARDWARE_STACK", "ECC", "NVLINK"),
    *("PROGRAM_COUNTER", "ERROR_ASSERT", "ASSERT_TRIGGERED", "DEVICE_UNAVAILABLE", "CONTEXT_IS_DESTROYED"),
)
_NO_MEMORY = ("OUT_OF_MEMORY", "MEMORYERROR", "FAILED_TO_ALLOCATE_MEMORY")  # the last is ONNX Runtime's


@dataclass
class Buffer:
    """Device memory: its address and size in bytes. `address` is 0 once it was freed."""

    address: int
    size: int

    def part(self, first: int, size: int) -> Buffer:
        """Return a view of `size` bytes from the byte `first` on. It must not be freed."""
        return Buffer(self.address + first, size)


Arguments: TypeAlias = Sequence[Buffer | int | None]  # of a kernel: buffers, int32 values, and None for a null pointer


class Device(Protocol):
    """One card. Events and graphs are opaque handles; a stream is the integer handle that TensorRT takes.

    Every method raises VljEdgeError when the driver refuses.
    """

    name: str
    sm: str

    def use(self) -> None:
        """Make the card current in the calling thread: needed once in every thread but the one that opened it."""

    def free_memory(self) -> int:
        """Return the number of bytes that can still be allocated."""

    def allocate(self, size: int) -> Buffer:
        """Allocate `size` bytes of device memory, filled with zeros."""

    def free(self, buffer: Buffer) -> None:
        """Free a buffer. Work that uses it must have ended."""

    def pinned(self, shape: Sequence[int], dtype: Any) -> npt.NDArray[Any]:
        """Allocate a page-locked host array, filled with zeros; only such memory can be copied asynchronously."""

    def stream(self) -> int:
        """Create a stream; never the default one."""

    def synchronise(self, stream: int) -> None:
        """Wait until everything on the stream is done."""

    def copy_in(self, buffer: Buffer, array: npt.NDArray[Any], stream: int) -> None:
        """Queue a copy of a pinned array to the device."""

    def copy_out(self, array: npt.NDArray[Any], buffer: Buffer, stream: int) -> None:
        """Queue a copy to a pinned array."""

    def copy(self, target: Buffer, source: Buffer, stream: int) -> None:
        """Queue a copy of all of `source` within the device."""

    def event(self) -> Any:
        """Create an event."""

    def record(self, event: Any, stream: int) -> None:
        """Queue an event."""

    def wait(self, event: Any) -> None:
        """Wait until the stream has reached the event."""

    def milliseconds(self, first: Any, second: Any) -> float:
        """Return the time between two events that have passed."""

    def begin_capture(self, stream: int) -> None:
        """Start a graph capture: work on the stream is recorded and not executed."""

    def end_capture(self, stream: int) -> Any:
        """End the capture and return the graph, ready to launch."""

    def launch(self, graph: Any, stream: int) -> None:
        """Queue a graph."""

    def load_kernel(self, code: bytes, name: str) -> Any:
        """Load a kernel from a cubin for this card."""

    def start(self, kernel: Any, grid: tuple[int, int, int], threads: int, arguments: Arguments, stream: int) -> None:
        """Queue a kernel: blocks in x, y and z, threads of a block, and its arguments in order."""


def driver_found() -> bool:
    """Return whether this machine has a CUDA driver; open_device() finds out whether it has a card."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


@lru_cache(maxsize=1)
def open_device() -> Device:
    """Open the first card, once a process.

    Raises:
        VljEdgeError: neither pycuda nor cuda-python is installed, the installed one does not work, or there is no card.
    """
    for package, module in _IMPLEMENTATIONS.items():
        if is_installed(package):
            try:
                device: Device = importlib.import_module(module, __package__).open_device()
            except VljEdgeError:
                raise
            except Exception as error:  # pycuda built for another CUDA, a driver too old, no card: all kinds of types
                raise VljEdgeError(
                    f"{package} is installed and cannot reach a card ({' '.join(str(error).split())[:200]}): check"
                    f" nvidia-smi, reinstall {package.split('.')[0]}, or run with --backend onnxruntime"
                ) from error
            return device
    raise VljEdgeError(
        "TensorRT needs pycuda or cuda-python to reach the card: pip install 'vlj-edge[tensorrt]' (or [rtx], [jetson])"
    )


def raise_driver_error(doing: str, error: str, free: int | None = None) -> NoReturn:
    """Raise a driver's error as a VljEdgeError that names the remedy.

    Args:
        doing: the operation that failed, such as "copying".
        error: the driver's message with the name of the error.
        free: bytes of free device memory, if the error may be about memory.
    """
    what = " ".join(error.split())[:200]
    if any(mark in error.upper().replace(" ", "_") for mark in _NO_MEMORY):
        left = f"; {free / 1e6:.0f} MB are free" if free is not None else ""
        raise VljEdgeError(
            f"the card has no memory left for {doing}{left}: close other programs, or export with --precision int8w or"
            " int4w"
        )
    if any(mark in error.upper().replace(" ", "_") for mark in _LOST):
        raise VljEdgeError(
            f"the card was lost while {doing} ({what}): results until now are kept; start again, and if it comes"
            " back build the engines again with vlj-edge build --force"
        )
    raise VljEdgeError(f"the card refused while {doing} ({what}): see dmesg and nvidia-smi, or --backend onnxruntime")


def kernel_arguments(arguments: Arguments) -> tuple[ctypes.Array[ctypes.c_void_p], list[Any]]:
    """Return a kernel's arguments as cuLaunchKernel reads them (an address each), and the values at these addresses,
    which must stay alive during the call."""
    kept: list[Any] = [
        ctypes.c_int32(one) if isinstance(one, int) else ctypes.c_void_p(one.address if one is not None else None)
        for one in arguments
    ]
    return (ctypes.c_void_p * len(kept))(*(ctypes.addressof(value) for value in kept)), kept


def nbytes(shape: Sequence[int], itemsize: int) -> int:
    """Return the size of a tensor in bytes."""
    return int(np.prod(shape, dtype=np.int64)) * itemsize
