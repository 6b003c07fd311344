"""Hardware decoders of this machine: which there are, and FFmpeg's."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Protocol

from .pyav import import_av

# FFmpeg's name of a device type -> files that its kernel driver creates. The check is cheap if there is none.
_DEVICES = {
    "cuda": ("/dev/nvidiactl", "/dev/dxg"),
    "vaapi": ("/dev/dri/renderD*",),
    "qsv": ("/dev/dri/renderD*",),
}
_JETSON = ("/dev/nvhost-nvdec", "/dev/v4l2-nvdec")


class Hardware(Protocol):
    """One hardware decoder for one stream. Its errors are of any type."""

    def decode(self, packet: Any) -> list[Any]:
        """Decode a packet (None at the end) and return the pictures (av.VideoFrame) that are ready."""

    def flush(self) -> None:
        """Discard all packets."""

    def close(self) -> None:
        """Release it."""


Candidate = tuple[str, Callable[[Any], Hardware]]  # its name, and a function that opens it for a stream


def candidates(stream: Any) -> Iterator[Candidate]:
    """Yield the hardware decoders that this machine seems to have for a stream."""
    if any(map(os.path.exists, _JETSON)):
        from .gstreamer_decoder import GStreamerDecoder

        yield "nvv4l2decoder", GStreamerDecoder
        return
    offered = {config.device_type.name for config in stream.codec_context.codec.hardware_configs if config.is_supported}
    for kind, devices in _DEVICES.items():
        if kind in offered and any(glob.glob(device) for device in devices):
            yield kind, partial(AvHardware, kind)


class AvHardware:
    """A decoder of FFmpeg's hwaccel, see Hardware.

    Args:
        kind: of device, such as "cuda"; None for software.
    """

    def __init__(self, kind: str | None, stream: Any) -> None:
        av = import_av()
        codec = stream.codec_context
        # without FFmpeg's own silent fallback to software
        accelerator = kind and av.codec.hwaccel.HWAccel(kind, allow_software_fallback=False)
        self.context = av.CodecContext.create(codec.name, "r", hwaccel=accelerator or None)
        self.context.extradata = codec.extradata
        self.context.thread_count = 1

    def decode(self, packet: Any) -> list[Any]:
        """See Hardware."""
        pictures: list[Any] = self.context.decode(packet)
        return pictures

    def flush(self) -> None:
        """See Hardware."""
        self.context.flush_buffers()

    def close(self) -> None:
        """See Hardware. The context is freed with this object."""
