"""Device memory, streams, events and graphs: all that the adapter asks of CUDA, behind one narrow interface.

Two packages provide it: pycuda, and cuda-python where pycuda is absent. Nothing else in the project touches either.
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
# After these the context is lost and every further call fails (CUresult of the CUDA driver API). pycuda says some of
# them in words.
_LOST = (
    *("ILLEGAL_ADDRESS", "ILLEGAL_MEMORY", "ILLEGAL_INSTRUCTION", "MISALIGNED", "ADDRESS_SPACE", "INVALID_PC"),
    *("LAUNCH_FAILED", "LAUNCH_FAILURE", "LAUNCH_TIMEOUT", "LAUNCH_TIMED_OUT", "HARDWARE_STACK", "ECC", "NVLINK"),
    *("PROGRAM_COUNTER", "ERROR_ASSERT", "ASSERT_TRIGGERED", "DEVICE_UNAVAILABLE", "CONTEXT_IS_DESTROYED"),
)


@dataclass
class Buffer:
    """Device memory: its address and size in bytes. `address` is 0 once it was freed."""

    address: int
    size: int

    def part(self, first: int, size: int) -> Buffer:
        """Some of it, by bytes. It is not to be freed."""
        return Buffer(self.address + first, size)


Arguments: TypeAlias = Sequence[Buffer | int | None]  # of a kernel: addresses, int32 values, and null


class Device(Protocol):
    """One card. Streams, events and graphs are opaque handles; a stream's is the integer that TensorRT takes.

    Every method raises VljEdgeError when the driver refuses.
    """

    name: str
    sm: str

    def use(self) -> None:
        """Make the card the calling thread's: needed once in every thread but the one that opened it."""

    def free_memory(self) -> int:
        """Bytes that can still be allocated."""

    def allocate(self, size: int) -> Buffer:
        """Device memory of `size` bytes, all zero."""

    def free(self, buffer: Buffer) -> None:
        """Give it back. Work that uses it must have ended."""

    def pinned(self, shape: Sequence[int], dtype: Any) -> npt.NDArray[Any]:
        """A page-locked host array, all zero: only such memory is copied while the host goes on."""

    def stream(self) -> int:
        """A new stream, never the default one."""

    def synchronise(self, stream: int) -> None:
        """Wait until everything on the stream is done."""

    def copy_in(self, buffer: Buffer, array: npt.NDArray[Any], stream: int) -> None:
        """Queue a copy of a pinned array to the device."""

    def copy_out(self, array: npt.NDArray[Any], buffer: Buffer, stream: int) -> None:
        """Queue a copy to a pinned array."""

    def copy(self, target: Buffer, source: Buffer, stream: int) -> None:
        """Queue a copy of all of `source` within the device."""

    def event(self) -> Any:
        """A new event."""

    def record(self, event: Any, stream: int) -> None:
        """Queue the event."""

    def wait(self, event: Any) -> None:
        """Wait until the stream has reached the event."""

    def milliseconds(self, first: Any, second: Any) -> float:
        """Between two events that have passed."""

    def begin_capture(self, stream: int) -> None:
        """From here on work on the stream is noted and not done."""

    def end_capture(self, stream: int) -> Any:
        """What was noted, as a graph that can be launched."""

    def launch(self, graph: Any, stream: int) -> None:
        """Queue all that was noted, at once."""

    def load_kernel(self, code: bytes, name: str) -> Any:
        """A kernel of a cubin that fits the card."""

    def start(self, kernel: Any, grid: tuple[int, int, int], threads: int, arguments: Arguments, stream: int) -> None:
        """Queue a kernel: blocks in x, y and z, threads of a block, and its arguments in order."""


def driver_found() -> bool:
    """Is there a CUDA driver on this machine? Whether it finds a card is for open_device() to say."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


@lru_cache(maxsize=1)
def open_device() -> Device:
    """The first card, opened once a process.

    Raises:
        VljEdgeError: neither pycuda nor cuda-python is installed, the one that is does not work, or there is no card.
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


def refuse(doing: str, error: str, free: int | None = None) -> NoReturn:
    """Raise what a person can act on.

    Args:
        doing: what was tried, "allocating 12 MB".
        error: the driver's own words, with its name for the error.
        free: bytes of device memory that are left, where that is to the point.
    """
    what = " ".join(error.split())[:200]
    if "OUT_OF_MEMORY" in error.upper().replace(" ", "_") or "MemoryError" in error:
        left = f"; {free / 1e6:.0f} MB are free" if free is not None else ""
        raise VljEdgeError(
            f"the card has no memory left for {doing}{left}: close other programs, or export with --precision int8w or"
            " int4w"
        )
    if any(mark in error.upper().replace(" ", "_") for mark in _LOST):
        raise VljEdgeError(
            f"the card was lost while {doing} ({what}): what was said until now stays; start again, and if it comes"
            " back build the engines again with vlj-edge build --force"
        )
    raise VljEdgeError(f"the card refused while {doing} ({what}): see dmesg and nvidia-smi, or --backend onnxruntime")


def pointers(arguments: Arguments) -> tuple[ctypes.Array[ctypes.c_void_p], list[Any]]:
    """A kernel's arguments as cuLaunchKernel reads them, an address each, and what lies there: it must live as long."""
    kept: list[Any] = [
        ctypes.c_int32(one) if isinstance(one, int) else ctypes.c_void_p(one.address if one is not None else None)
        for one in arguments
    ]
    return (ctypes.c_void_p * len(kept))(*(ctypes.addressof(value) for value in kept)), kept


def nbytes(shape: Sequence[int], itemsize: int) -> int:
    """Bytes of a tensor."""
    return int(np.prod(shape, dtype=np.int64)) * itemsize
