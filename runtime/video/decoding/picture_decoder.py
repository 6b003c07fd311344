"""From packets to pictures: by a hardware decoder where there is one that works, otherwise by FFmpeg's software."""

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
_HELD = 1000  # packets from a key picture on, which software decodes again where the hardware fails
_BEHIND = 32  # packets whose pictures the hardware may not have given yet
_MOST_DIFFERENT = 2.0  # grey levels, mean, between the first picture by hardware and by software


def say_decoder(shown: str, name: str) -> None:
    """Log which decoder reads a source, for commands with -v."""
    _LOG.info("%s is decoded by %s", shown, name)


class PictureDecoder:
    """Decodes the packets of one stream.

    The first picture is decoded by both: hardware that gives another one is not used. Where hardware fails later,
    software decodes from the last key picture on, and no picture is lost or comes twice.

    Args:
        stream: of a container, whose codec context is used for software.
        shown: the source's name in messages.
        choice: "auto": hardware that works, if there is any; "hardware": nothing else; "software": never hardware.
        say: called with a line when "auto" goes back to software.

    Attributes:
        name: of what decodes: "software", or that of the hardware.
        like: a picture of the stream by software, whose side data hold for all; None if software decodes.

    Raises:
        VljEdgeError: hardware is asked for, and there is none.
    """

    def __init__(
        self,
        stream: Any,
        shown: str,
        choice: DecoderChoice = "auto",
        say: Callable[[str], None] = lambda line: _LOG.warning("%s", line),
    ) -> None:
        self._software, self._shown, self._choice, self._say = stream.codec_context, shown, choice, say
        self.like: Any = None
        self.name = "software"
        self._hardware: Hardware | None = None
        self._held: deque[Any] = deque(maxlen=_HELD)
        self._given: deque[int | None] = deque(maxlen=2 * _HELD)  # times of the latest pictures by hardware
        self._works = False
        for name, opened in [] if choice == "software" else candidates(stream):
            try:
                self._hardware, self.name = opened(stream), name
                break
            except Exception as error:  # whatever a driver raises
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
        """Take in a packet, None at the end, and return the pictures that are ready, in the order of their times.

        Raises:
            av.error.InvalidDataError: the packet is damaged.
            VljEdgeError: the hardware that was asked for does not work.
        """
        if self._hardware is None:
            return list(self._software.decode(packet))
        if not self._held and not self._works and (packet is None or not packet.is_keyframe):
            return list(self._software.decode(packet))  # a stream that is joined in its middle, up to its key packet
        if packet is not None and packet.is_keyframe:
            if self.like is None:
                self._set_like(packet)
            self._drop_held()
        if packet is not None:
            self._held.append(packet)
        try:
            pictures = self._hardware.decode(packet)
            if pictures and not self._works:
                self._compare(pictures[0])
                self._works = True
        except Exception as error:  # whatever a driver raises
            if self._works and isinstance(error, import_av().error.InvalidDataError):
                raise
            self._complain(self.name, error)
            return self._by_software(packet)
        self._given.extend(_time(picture) for picture in pictures)
        return pictures

    def flush(self) -> None:
        """Forget what was taken in: the next packet is from elsewhere."""
        self._held.clear()
        self._given.clear()
        if self._hardware is not None:
            self._hardware.flush()

    def close(self) -> None:
        """Release the hardware."""
        if self._hardware is not None:
            self._hardware.close()

    def _drop_held(self) -> None:
        """Drop packets whose pictures have surely come, up to a key packet."""
        keys = [at for at, packet in enumerate(self._held) if packet.is_keyframe and len(self._held) - at >= _BEHIND]
        for _ in range(keys[-1] if keys else 0):
            self._held.popleft()

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
        """Raise an error if the first picture is not what software makes of it."""
        like = self.like
        if like is None or like.pts != picture.pts or like.interlaced_frame:  # of which the packet may hold one field
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
        self._say(
            f"{self._shown}: the hardware decoder {name} does not work here ({reason}): software decodes, as --decoder"
            " software does without this line"
        )

    def _by_software(self, packet: Any) -> list[Any]:
        """Go over to software, which decodes what the hardware was given since the last key picture."""
        self.close()
        self._hardware, self.name = None, "software"
        pictures: list[Any] = []
        for held in self._held:
            try:
                pictures += self._software.decode(held)
            except import_av().error.InvalidDataError:
                continue
        if packet is None:
            pictures += self._software.decode(None)
        self._held.clear()
        return [picture for picture in pictures if _time(picture) not in self._given]


def _time(picture: Any) -> int | None:
    time: int | None = picture.pts if picture.pts is not None else picture.dts
    return time
