"""Which part of a source is read."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from .decoding.picture_decoder import DecoderChoice
from .source import Frame, Source, WrappedSource

ImageTimes: TypeAlias = Literal["rate", "file", "exif"]

_LATE = 1.0  # seconds; the last frames of a live source may come so long after they are due


@dataclass(frozen=True)
class Part:
    """Which part of a recording is read, and when its pictures are shown.

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

    def length_of(self, duration: float | None) -> float | None:
        """Return how many seconds of a source of that duration are read; None if that is not known."""
        ends = [end for end in (duration, self.end) if end is not None]
        return max(0.0, min(ends) - self.start) if ends else None


class LiveUntil(WrappedSource):
    """A live source up to a time. One that gives nothing any more is interrupted a second later.

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
                self._timer = threading.Timer(max(0.0, self._end - frame.time) + _LATE, self._source.interrupt)
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
