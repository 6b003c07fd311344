"""Decodes packets to pictures: by a hardware decoder if one works, otherwise by FFmpeg in software."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from vlj_edge.errors import VljEdgeError

from .hardware import Hardware, candidates
from .pyav import import_av

DecoderChoice = Literal["auto", "software", "hardware"]

_LOG = logging.getLogger(__name__)
_MAX_PACKETS = 1000  # packets since a key picture, which software decodes again if the hardware fails
_MAX_DELAY = 32  # packets whose pictures the hardware may still hold
_MOST_DIFFERENT = 2.0  # grey levels, mean, between the first picture by hardware and by software


def log_decoder(shown: str, name: str) -> None:
    """Log the decoder of a source, for commands with -v."""
    _LOG.info("%s is decoded by %s", shown, name)


class PictureDecoder:
    """Decodes the packets of one stream.

    The first picture is decoded by both: hardware whose picture differs is not used. If hardware fails later, software
    decodes from the last key picture on, and no picture is lost or repeated.

    Args:
        stream: of a container, whose codec context is used for software.
        shown: the source's name in messages.
        choice: "auto": hardware if it works; "hardware": hardware only; "software": software only.
        log: called with a line when "auto" falls back to software.

    Attributes:
        name: of the decoder: "software", or that of the hardware.
        like: a picture of the stream decoded by software, whose side data apply to all; None if software decodes all.

    Raises:
        VljEdgeError: hardware was requested and there is none.
    """

    def __init__(
        self,
        stream: Any,
        shown: str,
        choice: DecoderChoice = "auto",
        log: Callable[[str], None] = lambda line: _LOG.warning("%s", line),
    ) -> None:
        self._software, self._shown, self._choice, self._log = stream.codec_context, shown, choice, log
        self.like: Any = None
        self.name = "software"
        self._hardware: Hardware | None = None
        self._packets: deque[Any] = deque(maxlen=_MAX_PACKETS)
        self._hardware_times: deque[int | None] = deque(maxlen=2 * _MAX_PACKETS)
        self._works = False
        for name, opened in [] if choice == "software" else candidates(stream):
            try:
                self._hardware, self.name = opened(stream), name
                break
            except Exception as error:  # a driver may raise anything
                self._complain(name, error)
        if choice == "hardware" and self._hardware is None:
            raise VljEdgeError(
                f"{shown}: this machine has no hardware decoder for {self._software.name}: leave --decoder hardware out"
            )

    @property
    def context(self) -> Any:
        """The codec context that decodes: FFmpeg's av.CodecContext."""
        return getattr(self._hardware, "context", self._software)

    def decode(self, packet: Any) -> list[Any]:
        """Decode a packet (None at the end) and return the pictures that are ready, in the order of their times.

        Raises:
            av.error.InvalidDataError: the packet is damaged.
            VljEdgeError: the requested hardware does not work.
        """
        if self._hardware is None:
            return list(self._software.decode(packet))
        if not self._packets and not self._works and (packet is None or not packet.is_keyframe):
            return list(self._software.decode(packet))  # before the first key packet
        if packet is not None and packet.is_keyframe:
            if self.like is None:
                self._set_like(packet)
            self._drop_packets()
        if packet is not None:
            self._packets.append(packet)
        try:
            pictures = self._hardware.decode(packet)
            if pictures and not self._works:
                self._compare(pictures[0])
                self._works = True
        except Exception as error:  # a driver may raise anything
            if self._works and isinstance(error, import_av().error.InvalidDataError):
                raise
            self._complain(self.name, error)
            return self._by_software(packet)
        self._hardware_times.extend(_time(picture) for picture in pictures)
        return pictures

    def flush(self) -> None:
        """Discard all packets: the next packet is from another place in the stream."""
        self._packets.clear()
        self._hardware_times.clear()
        if self._hardware is not None:
            self._hardware.flush()

    def close(self) -> None:
        """Release the hardware."""
        if self._hardware is not None:
            self._hardware.close()

    def _drop_packets(self) -> None:
        """Drop packets whose pictures were certainly returned, up to a key packet."""
        keys = [
            index
            for index, packet in enumerate(self._packets)
            if packet.is_keyframe and len(self._packets) - index >= _MAX_DELAY
        ]
        for _ in range(keys[-1] if keys else 0):
            self._packets.popleft()

    def _set_like(self, packet: Any) -> None:
        """Decode a key picture by software."""
        damaged = import_av().error.FFmpegError
        try:
            pictures = [*self._software.decode(packet), *self._software.decode(None)]
        except damaged:
            pictures = []
        self.like = pictures[0] if pictures else None
        self._software.flush_buffers()

    def _compare(self, picture: Any) -> None:
        """Raise an error if the first picture differs from the one that software decodes."""
        like = self.like
        if like is None or like.pts != picture.pts or like.interlaced_frame:  # one field may be in another packet
            return
        if (like.width, like.height) != (picture.width, picture.height):
            raise ValueError(f"it gives {picture.width}x{picture.height} pixels, not {like.width}x{like.height}")
        ours, theirs = (p.reformat(format="gray").to_ndarray().astype(np.int16) for p in (like, picture))
        if np.abs(ours - theirs).mean() > _MOST_DIFFERENT:
            raise ValueError("it gives other pictures than software")

    def _complain(self, name: str, error: Exception) -> None:
        reason = getattr(error, "strerror", None) or str(error)
        if self._choice == "hardware":
            raise VljEdgeError(
                f"{self._shown}: the hardware decoder {name} does not work here ({reason}): leave --decoder hardware"
                " out"
            ) from None
        self._log(
            f"{self._shown}: the hardware decoder {name} does not work here ({reason}): software decodes, as --decoder"
            " software does without this line"
        )

    def _by_software(self, packet: Any) -> list[Any]:
        """Switch to software, which decodes all packets since the last key picture again."""
        self.close()
        self._hardware, self.name = None, "software"
        pictures: list[Any] = []
        for earlier in self._packets:
            try:
                pictures += self._software.decode(earlier)
            except import_av().error.InvalidDataError:
                continue
        if packet is None:
            pictures += self._software.decode(None)
        self._packets.clear()
        return [picture for picture in pictures if _time(picture) not in self._hardware_times]


def _time(picture: Any) -> int | None:
    time: int | None = picture.pts if picture.pts is not None else picture.dts
    return time
