"""What cameras have shown, kept in a store: a minute of a source is a video of its own, without pictures."""

from __future__ import annotations

import logging
import threading
import time
from datetime import datetime, timezone

from vlj_edge.errors import VljEdgeError
from vlj_edge.results import WindowReport

from ..library.store import Store, Video, VideoMoments, moments_of
from .channel import SourceSettings

_TIDY_EVERY = 60  # minutes that are stored, after which the many small files are made few
_MOST = 100_000  # looks that wait while the store cannot be written; the oldest are forgotten first


class Recorder:
    """Collects the windows that were encoded, and stores them once a minute in a thread of its own.

    Args:
        store: one that may be written. What was asked another question than it is left out.
        default_query: what a source is asked that names no query.
        pause: seconds from one time to the next.

    Attributes:
        stored, lost: moments, and windows.
        last_error: one line; None: there was none.
    """

    def __init__(self, store: Store, default_query: str, pause: float = 60.0) -> None:
        self._store, self._default, self._pause = store, default_query, pause
        self.stored = self.lost = 0
        self.last_error: str | None = None
        self._waiting: dict[str, list[tuple[float, WindowReport]]] = {}
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._writes = 0
        self._thread = threading.Thread(target=self._work, name="remember", daemon=True)
        self._thread.start()

    def see(self, wanted: SourceSettings, clock: float, look: WindowReport) -> None:
        """A window of a source, and the unix time at which it was dealt with. Any thread may call it."""
        if look.embedding is None or (wanted.query or self._default) != self._store.query:
            return
        with self._lock:
            waiting = self._waiting.setdefault(wanted.name, [])
            waiting.append((clock, look))
            if len(waiting) > _MOST:
                del waiting[0]
                self.lost += 1

    def close(self) -> None:
        """Store what waits. May be called twice."""
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
        for source, looks in taken.items():
            try:
                moments = a_minute(source, looks)
                if moments is None:
                    continue
                self._store.put(moments)
                self.stored += len(moments.start)
                self._writes += 1
                if self._writes % _TIDY_EVERY == 0:
                    self._store.tidy()
            except VljEdgeError as error:  # a full disk: they wait for the next time
                self.last_error = str(error)
                logging.warning("%s", error)
                with self._lock:
                    self._waiting[source] = (looks + self._waiting.get(source, []))[-_MOST:]


def a_minute(source: str, looks: list[tuple[float, WindowReport]]) -> VideoMoments | None:
    """As a video that is called after the source and the time (UTC) of its beginning, with seconds from there on."""
    first, look = looks[0]
    begun = first - (look.window.end - look.window.start)
    name = datetime.fromtimestamp(begun, timezone.utc).isoformat(timespec="milliseconds")
    windows = [
        (max(0.0, clock - begun - (look.window.end - look.window.start)), clock - begun, look.embedding)
        for clock, look in looks
        if look.embedding is not None
    ]
    return moments_of(Video(f"{source} {name}", 0, time.time_ns()), windows)
