"""A recording that is read in real time, like a camera."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

from .source import Frame, Source, WrappedSource

_MOST_LATE = 1.0  # seconds


class PacedSource(WrappedSource):
    """A recording in real time: each frame is yielded at its time, and frames that are too late are skipped.

    If reading is slower than real time, or the process was suspended, the schedule is moved: the lag never exceeds a
    second.

    Attributes:
        origin: time.monotonic() at which time 0 of the recording is played; None before the first frame.
        bad: number of frames that could not be decoded.
    """

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self.live, self.rereadable = True, source.rereadable
        self._stop = threading.Event()
        self.origin: float | None = None

    @property
    def bad(self) -> int:
        """Number of frames that could not be decoded."""
        return int(getattr(self._source, "bad", 0))

    def frames(self) -> Iterator[Frame]:
        """See Source."""
        end = 0.0
        for frame in self._source:
            if not self._wait_for(frame.time):
                return
            yield frame
            end = frame.time + self._source.period
        self.incomplete = self._source.incomplete
        self._wait_for(end)

    def interrupt(self) -> None:
        """See Source."""
        self._stop.set()
        super().interrupt()

    def close(self) -> None:
        """See Source."""
        self._stop.set()
        super().close()

    def _wait_for(self, seconds: float) -> bool:
        """Wait until a time of the recording; return False if interrupted."""
        now = time.monotonic()
        if self.origin is None or now - self.origin - seconds > _MOST_LATE:
            self.origin = now - seconds
        return not self._stop.wait(max(0.0, self.origin + seconds - now))
