"""Our CUDA kernels on the card: each is loaded once, and started only with what it serves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vlj_edge.cuda import cubins, kernels
from vlj_edge.errors import VljEdgeError

from .device import Buffer, Device

_ALIGNED = 16  # bytes: what the kernels read and write at once


class Kernels:
    """The kernels of one card.

    Raises:
        VljEdgeError: none was compiled for this card.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._loaded: dict[str, Any] = {}
        cubins.card_of(device.sm)

    def start(
        self, launch: kernels.Launch, inputs: Sequence[Buffer], outputs: Sequence[Buffer | None], stream: int
    ) -> None:
        """Queue a kernel.

        Args:
            launch: of vlj_edge.cuda.kernels.
            inputs, outputs: in the order of the kernel's parameters. An output that is None is not written, where the
                kernel says that it may be null.

        Raises:
            VljEdgeError: a buffer is too small or not aligned, the card cannot compute in the kernel's type, or the
                driver refuses.
        """
        for what, given, sizes in (("input", inputs, launch.inputs), ("output", outputs, launch.outputs)):
            if len(given) != len(sizes):
                raise VljEdgeError(f"{launch.name} has {len(sizes)} {what}s, not {len(given)}: give each a buffer")
            for number, (buffer, size) in enumerate(zip(given, sizes, strict=True)):
                if buffer is not None:
                    _check(f"{what} {number} of {launch.name}", buffer, size)
        if launch.name not in self._loaded:
            kernels.check_dtype("bfloat16" if "bf16" in launch.name else "float16", self._device.sm)
            code = cubins.cubin(launch.source, self._device.sm)
            self._loaded[launch.name] = self._device.load_kernel(code, launch.name)
        arguments = (*inputs, *launch.integers, *outputs)
        self._device.start(self._loaded[launch.name], launch.grid, launch.threads, arguments, stream)


def _check(what: str, buffer: Buffer, size: int) -> None:
    if buffer.size < size:
        raise VljEdgeError(f"{what} has {buffer.size} bytes where the kernel needs {size}: allocate more")
    if buffer.address % _ALIGNED or not buffer.address:
        raise VljEdgeError(
            f"{what} lies at {buffer.address:#x}, which is no multiple of {_ALIGNED}: allocate it by itself"
        )
