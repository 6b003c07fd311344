"""Launching this project's CUDA kernels from Python."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vlj_edge.cuda import cubins
from vlj_edge.cuda.launch import Launch, check_dtype
from vlj_edge.errors import VljEdgeError

from .device import Buffer, Device

_ALIGNMENT = 16  # bytes that the kernels read and write at once


class Kernels:
    """The kernels of one GPU. Each is loaded when it is first launched.

    Raises:
        VljEdgeError: no kernel was compiled for this GPU.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._loaded: dict[str, Any] = {}
        cubins.card_of(device.sm)

    def start(self, launch: Launch, inputs: Sequence[Buffer], outputs: Sequence[Buffer | None], stream: int) -> None:
        """Queue a kernel on a stream.

        Args:
            launch: from vlj_edge.cuda.attention or vlj_edge.cuda.pixels, which describe its inputs and outputs.
            inputs, outputs: buffers in that order; None for an optional output that is not written.

        Raises:
            VljEdgeError: a buffer is missing, too small or misaligned, the GPU cannot compute in the kernel's type, or
                the driver reports an error.
        """
        for kind, buffers, sizes in (("input", inputs, launch.input_bytes), ("output", outputs, launch.output_bytes)):
            if len(buffers) != len(sizes):
                raise VljEdgeError(f"{launch.name} has {len(sizes)} {kind}s, not {len(buffers)}: pass one buffer each")
            for number, (buffer, size) in enumerate(zip(buffers, sizes, strict=True)):
                if buffer is not None:
                    _check(f"{kind} {number} of {launch.name}", buffer, size)
        if launch.name not in self._loaded:
            check_dtype("bfloat16" if "bf16" in launch.name else "float16", self._device.sm)
            code = cubins.cubin(launch.source, self._device.sm)
            self._loaded[launch.name] = self._device.load_kernel(code, launch.name)
        arguments = (*inputs, *launch.integers, *outputs)
        self._device.start(self._loaded[launch.name], launch.grid, launch.threads, arguments, stream)


def _check(name: str, buffer: Buffer, size: int) -> None:
    if buffer.size < size:
        raise VljEdgeError(f"{name} has {buffer.size} bytes where the kernel needs {size}: allocate more")
    if buffer.address % _ALIGNMENT or not buffer.address:
        raise VljEdgeError(
            f"{name} is at address {buffer.address:#x}, not a multiple of {_ALIGNMENT}: allocate it separately"
        )
