"""Stores the embeddings of cameras in a library: each minute of a source becomes a video of its own, without
pictures."""

from __future__ import annotations

import logging
import threading
import time
from datetime import datetime, timezone

from vlj_edge.errors import VljEdgeError
from vlj_edge.results import WindowReport

from ..library.moments import Video, VideoMoments, merge_windows
from ..library.store import Store
from .settings import SourceSettings

_WRITES_PER_TIDY = 60  # writes after which the store's small files are merged
_MAX_WAITING = 100_000  # windows of a source that wait while the store cannot be written; the oldest are dropped first


class Recorder:
    """Collects encoded windows and writes them to a store in a thread of its own.

    Args:
        store: opened for writing. Windows of sources with another query than the store's are left out.
        default_query: the query of sources without one.
        pause: seconds between two writes.

    Attributes:
        stored: number of moments written.
        lost: number of windows dropped.
        last_error: one line, or None.
    """

    def __init__(self, store: Store, default_query: str, pause: float = 60.0) -> None:
        self._store, self._default_query, self._pause = store, default_query, pause
        self.stored = self.lost = 0
        self.last_error: str | None = None
        self._waiting: dict[str, list[tuple[float, WindowReport]]] = {}
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._writes = 0
        self._thread = threading.Thread(target=self._work, name="recorder", daemon=True)
        self._thread.start()

    def add(self, settings: SourceSettings, clock: float, report: WindowReport) -> None:
        """Add a window of a source; `clock` is the unix time of its end. May be called from any thread."""
        if report.embedding is None or (settings.query or self._default_query) != self._store.query:
            return
        with self._lock:
            waiting = self._waiting.setdefault(settings.name, [])
            waiting.append((clock, report))
            if len(waiting) > _MAX_WAITING:
                del waiting[0]
                self.lost += 1

    def close(self) -> None:
        """Write the waiting windows and close the store. May be called twice."""
        self._stop.set()
        self._thread.join(30.0)

    def _work(self) -> None:
        while not self._stop.wait(self._pause):
            self._write()
        self._write()
        self._store.close()

    def _write(self) -> None:
        with self._lock:
            taken, self._waiting = self._waiting, {}
        for source, reports in taken.items():
            try:
                moments = to_video(source, reports)
                if moments is None:
                    continue
                self._store.put(moments)
                self.stored += len(moments.start)
                self._writes += 1
                if self._writes % _WRITES_PER_TIDY == 0:
                    self._store.compact()
            except VljEdgeError as error:  # a full disk: these windows wait for the next write
                self.last_error = str(error)
                logging.warning("%s", error)
                with self._lock:
                    self._waiting[source] = (reports + self._waiting.get(source, []))[-_MAX_WAITING:]


def to_video(source: str, reports: list[tuple[float, WindowReport]]) -> VideoMoments | None:
    """Return windows as a video named after the source and the UTC time of its beginning; None if no window has an
    embedding.

    Args:
        reports: unix time of a window's end, and its report; at least one.
    """
    first_clock, first = reports[0]
    start = first_clock - (first.window.end - first.window.start)
    name = datetime.fromtimestamp(start, timezone.utc).isoformat(timespec="milliseconds")
    windows = [
        (max(0.0, clock - start - (report.window.end - report.window.start)), clock - start, report.embedding)
        for clock, report in reports
        if report.embedding is not None
    ]
    return merge_windows(Video(f"{source} {name}", 0, time.time_ns()), windows)
