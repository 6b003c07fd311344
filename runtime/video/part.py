"""The part of a source that is read."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from numbers import Real
from typing import Literal, TypeAlias, get_args

from vlj_edge.errors import WrongCall

from .decoding.picture_decoder import DecoderChoice
from .source import Frame, Source, WrappedSource

ImageTimes: TypeAlias = Literal["rate", "file", "exif"]

_LONGEST = 1e9  # seconds, three decades: no recording begins later
_LATE = 1.0  # seconds by which the last frames of a live source may be late


@dataclass(frozen=True)
class Part:
    """Which part of a recording is read, when its pictures are shown, and by which decoder.

    Attributes:
        start: seconds; pictures before it are left out.
        end: seconds; pictures from it on are left out. None: up to the end.
        frames_per_second: the pictures' rate in place of their own times; None: their own.
        image_times: where the times of a folder's images come from: "rate", their modification times ("file"), or what
            the camera wrote into them ("exif").
        decoder: see PictureDecoder.
    """

    start: float = 0.0
    end: float | None = None
    frames_per_second: float | None = None
    image_times: ImageTimes = "rate"
    decoder: DecoderChoice = "auto"

    def check(self) -> None:
        """Refuse what no source has.

        Raises:
            VljEdgeError: an empty part, a rate out of range, or a choice that there is not.
        """
        start, end, rate = self.start, self.end, self.frames_per_second
        check_number("start", start)
        if end is not None:
            check_number("end", end)
        if not 0 <= start <= _LONGEST or (end is not None and not end > start):
            until = "the end" if end is None else f"{end:g} s"
            raise WrongCall(f"the part from {start:g} s to {until} holds nothing: give 0 <= start < end")
        check_rate(rate)
        if self.image_times not in (times := get_args(ImageTimes)):
            raise WrongCall(f"the times of images are {', '.join(times)}, not {self.image_times!r}")
        if self.decoder not in (decoders := get_args(DecoderChoice)):
            raise WrongCall(f"the decoder is {', '.join(decoders)}, not {self.decoder!r}")
        if self.image_times != "rate" and rate is not None:
            raise WrongCall(f"a rate of images and their times of {self.image_times} exclude each other: give one")

    def length_of(self, duration: float | None) -> float | None:
        """Return how many seconds of a source of that duration are read; None if unknown."""
        ends = [end for end in (duration, self.end) if end is not None]
        return max(0.0, min(ends) - self.start) if ends else None


def check_ends(source: Source) -> None:
    """Refuse a live source that no part ends.

    Raises:
        VljEdgeError: it is one.
    """
    if source.live and not isinstance(source, LiveUntil):
        raise WrongCall(f"{source.shown} is live and has no end: give one, such as --duration 30s")


def check_rate(frames_per_second: float | None, name: str = "frames_per_second") -> None:
    """Refuse a rate that no source has.

    Raises:
        VljEdgeError: it is no number, below 0.001 or above 1000.
    """
    if frames_per_second is None:
        return
    check_number(name, frames_per_second)
    if not 0.001 <= frames_per_second <= 1000:
        raise WrongCall(f"a source has 0.001 to 1000 frames a second, not {frames_per_second:g}: change {name}")


def check_number(name: str, value: object) -> None:
    """Refuse what is no number, such as "1:30", None or True.

    Raises:
        VljEdgeError: it is none.
    """
    if not isinstance(value, Real) or isinstance(value, bool):
        raise WrongCall(f"{name} is {value!r}: give a number, of seconds or frames a second")


class LiveUntil(WrappedSource):
    """A live source up to a time. If it gives no frames, it is interrupted a second later.

    Args:
        end: seconds; frames from it on are left out.
    """

    def __init__(self, source: Source, end: float) -> None:
        super().__init__(source)
        self._end = end
        self._timer: threading.Timer | None = None

    def frames(self) -> Iterator[Frame]:
        """See Source."""
        for frame in self._source:
            if self._timer is None:
                seconds = min(max(0.0, self._end - frame.time), _LONGEST)
                self._timer = threading.Timer(seconds + _LATE, self._source.interrupt)
                self._timer.daemon = True
                self._timer.start()
            if frame.time >= self._end - 1e-6:
                return
            yield frame
        self.incomplete = self._source.incomplete

    def close(self) -> None:
        """See Source."""
        if self._timer is not None:
            self._timer.cancel()
        super().close()
