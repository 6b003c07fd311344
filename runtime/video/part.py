"""Which part of a source is read."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from .decoding.picture_decoder import DecoderChoice
from .source import Frame, Source

ImageTimes: TypeAlias = Literal["rate", "file", "exif"]

_LATE = 1.0  # seconds; a live source's frames of the part may come so long after its end


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

    @property
    def is_whole(self) -> bool:
        """Whether no picture is left out."""
        return self.start <= 0 and self.end is None

    def length_of(self, duration: float | None) -> float | None:
        """Return how many seconds of a source of that duration are read; None if that is not known."""
        ends = [end for end in (duration, self.end) if end is not None]
        return max(0.0, min(ends) - self.start) if ends else None


class PartOfSource(Source):
    """A part of a source that has to be read from its beginning. Frames keep their times.

    A live source is interrupted a second after the end of the part, so that one that gives nothing any more ends too.
    """

    def __init__(self, source: Source, part: Part) -> None:
        self._source, self.part = source, part
        self.period, self.live, self.rereadable = source.period, source.live, source.rereadable
        self.duration = part.length_of(source.duration)
        self._timer: threading.Timer | None = None

    def frames(self) -> Iterator[Frame]:
        """See Source."""
        for frame in self._source:
            if self.live and self.part.end is not None and self._timer is None:
                self._timer = threading.Timer(max(0.0, self.part.end - frame.time) + _LATE, self._source.interrupt)
                self._timer.daemon = True
                self._timer.start()
            if self.part.end is not None and frame.time >= self.part.end - 1e-6:
                return
            if frame.time >= self.part.start - 1e-6:
                yield frame
        self.incomplete = self._source.incomplete

    def interrupt(self) -> None:
        """See Source."""
        self._source.interrupt()

    def close(self) -> None:
        """See Source."""
        if self._timer is not None:
            self._timer.cancel()
        self._source.close()
