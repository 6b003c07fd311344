"""Keeps what the sources of a service have shown in a library, for as long and as large as it may be.

Each minute of a camera becomes a video of its own, named after the source and the time; moments of a recording have the
recording's path and its own times. What is stored of a recording already is not stored again, as when it begins again.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import NamedTuple

from vlj_edge.errors import VljEdgeError, without_credentials

from ..library.moments import SeenWindow, Video, VideoMoments, merge_windows, reading_of
from ..library.store import Store
from ..library.thumbnails import thumbnail
from ..video.paths import path_of
from .channel_context import ReportedWindow
from .settings import SourceSettings

_LOG = logging.getLogger(__name__)
_WRITES_PER_TIDY, _TIDY_SECONDS = 60, 3600.0  # after so many writes or so long, small files are merged and old ones go
_MAX_WAITING = 100_000  # windows of a source that wait while the store cannot be written; the oldest are dropped first


class Retention(NamedTuple):
    """How long recorded moments are kept, and how large they may become together; None: without end.

    Videos that vlj-edge index has stored are never removed.
    """

    days: float | None = None
    gigabytes: float | None = None


_FOR_EVER = Retention()


class Key(NamedTuple):
    """What windows are of: a source, and of a source that is a recording, the recording."""

    source: str
    recording: Video | None


class RecordedWindow(NamedTuple):
    """A window with the unix time of its end; of a recording in its own times."""

    clock: float
    seen: SeenWindow


class Recorder:
    """Collects encoded windows and writes them to a store in a thread of its own.

    Args:
        store: opened for writing. Windows of sources that are asked another query than the store's are left out.
        default_query: the query of sources that name none.
        retention: applied at the start, and then every hour or more often.
        pause: seconds between two writes.

    Attributes:
        stored: number of moments written.
        lost: number of windows dropped.
        last_error: one line, or None.

    That the store cannot be written, can be again, or that windows are lost at the end is logged once each time.
    """

    def __init__(self, store: Store, default_query: str, retention: Retention = _FOR_EVER, pause: float = 60.0) -> None:
        self._store, self._default_query, self._retention, self._pause = store, default_query, retention, pause
        self.stored = self.lost = 0
        self.last_error: str | None = None
        self._failing = False
        self._waiting: dict[Key, list[RecordedWindow]] = {}
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._last: dict[Video, float] = {}  # of recordings, when the last window begins that is stored
        self._writes, self._tidied = 0, 0.0
        self._thread = threading.Thread(target=self._work, name="recorder", daemon=True)
        self._thread.start()

    def add(self, window: ReportedWindow) -> None:
        """Add a window of a source. May be called from any thread."""
        settings, report = window.settings, window.report
        if report.embedding is None or (settings.query or self._default_query) != self._store.query:
            return
        start, end = report.window.start + window.offset, report.window.end + window.offset
        seen = RecordedWindow(window.clock, SeenWindow(start, end, report.embedding, _thumbnail(window)))
        key = Key(settings.name, None if window.live else recording_of(settings))
        with self._lock:
            waiting = self._waiting.setdefault(key, [])
            waiting.append(seen)
            if len(waiting) > _MAX_WAITING:
                del waiting[0]
                self.lost += 1

    def close(self) -> None:
        """Write what waits and close the store. May be called twice."""
        self._stop.set()
        self._thread.join(30.0)

    def _work(self) -> None:
        self._tidy()
        while not self._stop.wait(self._pause):
            self._write()
            if self._writes >= _WRITES_PER_TIDY or time.monotonic() - self._tidied > _TIDY_SECONDS:
                self._tidy()
        self._write()
        self.lost += sum(map(len, self._waiting.values()))
        if self.lost:
            _LOG.warning("the store has lost %d windows", self.lost, extra={"sink": "store", "reason": self.last_error})
        self._store.close()

    def _write(self) -> None:
        with self._lock:
            taken, self._waiting = self._waiting, {}
        for key, windows in taken.items():
            try:
                self._store_windows(key, windows)
            except Exception as error:  # such as a full disk, or no memory: these windows wait for the next write
                self._fail(error)
                with self._lock:
                    waiting = windows + self._waiting.get(key, [])
                    self.lost += max(len(waiting) - _MAX_WAITING, 0)
                    self._waiting[key] = waiting[-_MAX_WAITING:]
            else:
                self._succeed()

    def _store_windows(self, key: Key, windows: list[RecordedWindow]) -> None:
        moments = to_video(key.source, windows) if key.recording is None else self._new_moments(key.recording, windows)
        if moments is None:
            return
        self._store.append(moments, windows[-1].clock)
        self.stored += len(moments.start)
        self._writes += 1
        if key.recording is not None:
            self._last[key.recording] = max(self._last[key.recording], *(each.seen.start for each in windows))

    def _new_moments(self, video: Video, windows: list[RecordedWindow]) -> VideoMoments | None:
        """Return the moments of a recording that come after those that are stored; None if there are none."""
        if video not in self._last:
            until = self._store.recorded_until(video)
            if not until:
                self._store.remove(video.path)  # as it was before it changed
            self._last[video] = until - 1e-3
        last, new = self._last[video], []
        for _, seen in windows:
            if seen.start > last:  # or it has begun again
                new.append(seen)
                last = seen.start
        return merge_windows(video, new)

    def _tidy(self) -> None:
        self._writes, self._tidied = 0, time.monotonic()
        try:
            if self._retention.days is not None:
                self._store.forget_recorded(time.time() - self._retention.days * 86400)
            if self._retention.gigabytes is not None:
                self._store.shrink_recorded(self._retention.gigabytes * 1e9)
            self._store.compact()
        except Exception as error:  # tried again
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        self.last_error = str(error if isinstance(error, VljEdgeError) else VljEdgeError(f"it failed ({error!r})"))
        if not self._failing:
            about = {"sink": "store", "state": "fails", "reason": self.last_error}
            _LOG.warning("the store cannot be written: %s", self.last_error, extra=about)
        self._failing = True

    def _succeed(self) -> None:
        if self._failing:
            _LOG.info("the store is written again", extra={"sink": "store", "state": "works"})
        self._failing = False


def _thumbnail(window: ReportedWindow) -> bytes | None:
    try:
        image = window.image()
    except VljEdgeError:  # a damaged picture
        return None
    return None if image is None else thumbnail(image)


def to_video(source: str, windows: list[RecordedWindow]) -> VideoMoments | None:
    """Return windows of a camera as a video named after it and the UTC time of its beginning, with times from there."""
    first = windows[0]
    start = first.clock - (first.seen.end - first.seen.start)
    name = datetime.fromtimestamp(start, timezone.utc).isoformat(timespec="milliseconds")
    placed = (
        each.seen._replace(
            start=max(0.0, each.clock - start - (each.seen.end - each.seen.start)), end=each.clock - start
        )
        for each in windows
    )
    return merge_windows(Video(f"{source} {name}", 0, time.time_ns()), placed)


def recording_of(settings: SourceSettings) -> Video:
    """Return what a recording is stored as: its absolute path and state, or its address; and the part that is
    played."""
    path, reading = path_of(settings.uri) or Path(settings.uri), reading_of(settings.part, settings.rotate)
    with suppress(OSError, ValueError):
        about = path.stat()
        return Video(str(path.absolute()), about.st_size, about.st_mtime_ns, reading)
    return Video(without_credentials(settings.uri), 0, 0, reading)
