"""One source that is read by several runs, one after another."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from math import inf

from ..video.paced import PacedSource
from ..video.source import Frame, Image, Source

# A gap between two frames of a camera after which a new run begins: seconds, or nominal frame intervals of a slow one.
_LONGEST_GAP, _MOST_MISSING = 3.0, 3


class ResumableSource:
    """Lets several runs read the same source, one after another: each begins at the frame where the one before stopped.

    Attributes:
        source: the source itself. ResumableSource never closes it between runs.
        name: in messages; empty: that of the source.
        latest: the newest frame, or None.
        latest_at: the time.monotonic() at which it came.
        skipped: number of frames left out because they were older than the one before.
        ended: True once the source has no more frames.
    """

    def __init__(self, source: Source, name: str = "") -> None:
        self.source, self.name = source, name
        self.latest: Frame | None = None
        self.latest_at, self.skipped, self.ended = 0.0, 0, False
        self._frames = iter(source)
        self._put_back: Frame | None = None

    def next_run(self, is_current: Callable[[], bool]) -> SourceRun:
        """Return the frames for the next run. The run before must have ended.

        Args:
            is_current: whether the run goes on; called before and after each frame is read.
        """
        return SourceRun(self, is_current)

    def close(self) -> None:
        """Close the source."""
        self.source.close()
        with suppress(ValueError):  # a thread is still inside a read
            getattr(self._frames, "close", lambda: None)()

    def take(self) -> Frame | None:
        """Return the next frame, or None at the end of the source."""
        frame, self._put_back = self._put_back or next(self._frames, None), None
        if frame is None:
            self.ended = True
        return frame

    def put_back(self, frame: Frame) -> None:
        """Keep a frame for the next run."""
        self._put_back = frame


class SourceRun(Source):
    """The frames of one run, with times from its own first frame.

    Attributes:
        offset: seconds from the first frame of the source to that of this run.
        first_at: the time.monotonic() at which its first frame came; None before.
        finished: set once this run gives no more frames.
    """

    def __init__(self, resumable: ResumableSource, is_current: Callable[[], bool]) -> None:
        self._resumable, self._is_current = resumable, is_current
        self.live, self.period, self.name = resumable.source.live, resumable.source.period, resumable.name
        self.shown = resumable.name or resumable.source.shown
        self.offset = 0.0
        self.first_at: float | None = None
        self.finished = threading.Event()

    def frames(self) -> Iterator[Frame]:
        """Yield frames until the run is no longer current, a live source pauses for long, or the source ends."""
        resumable, first = self._resumable, None
        before = None if resumable.latest is None else resumable.latest.time
        try:
            while self._is_current():
                frame = resumable.take()
                if frame is None:
                    self.incomplete = resumable.source.incomplete
                    return
                if self.live and before is not None and frame.time < before:
                    resumable.skipped += 1
                    continue
                paused = first is not None and before is not None and frame.time - before > self._longest_gap()
                if paused or not self._is_current():
                    resumable.put_back(frame)
                    return
                resumable.latest, resumable.latest_at, before = frame, time.monotonic(), frame.time
                if first is None:
                    first = self.offset = frame.time
                    self.first_at = resumable.latest_at
                self.period = resumable.source.period
                yield Frame(frame.time - first, partial(_image, frame), frame.until_next)
        finally:
            self.finished.set()

    def _longest_gap(self) -> float:
        """Return the largest gap between two frames, in seconds, that does not end the run."""
        if not self.live or isinstance(self._resumable.source, PacedSource):
            return inf
        return max(_LONGEST_GAP, _MOST_MISSING * self.period)


def _image(frame: Frame) -> Image:
    return frame.image  # converted once for all callers
