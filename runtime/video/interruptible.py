"""File objects that FFmpeg reads from, and KeyboardInterrupt in such a read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Interruptible:
    """A file object for av.open(), which stores an exception that a signal handler raises during a read.

    FFmpeg treats it as one failed read and tries the next. Here every later read returns the end of the file, so that
    FFmpeg returns; check() then raises the exception.

    Args:
        place: has read() and optionally seek() and io_open(), see HlsPlaylist. Other attributes are passed on.
    """

    def __init__(self, place: Any) -> None:
        self._place = place
        self._raised: BaseException | None = None
        self.read = self._guarded(place.read, lambda: b"")
        if hasattr(place, "seek"):
            self.seek = self._guarded(place.seek, lambda: -1)
        if hasattr(place, "io_open"):
            self.io_open = self._guarded(self._io_open, _refuse)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._place, name)

    def check(self) -> None:
        """Raise the exception that was stored since the last call, if any."""
        raised, self._raised = self._raised, None
        if raised is not None:
            raise raised

    def _io_open(self, *arguments: Any) -> Any:
        part = self._place.io_open(*arguments)
        part.read = self._guarded(part.read, lambda: b"")
        return part

    def _guarded(self, function: Callable[..., Any], otherwise: Callable[[], Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            if self._raised is None:
                try:
                    return function(*arguments)
                except (KeyboardInterrupt, SystemExit) as error:
                    self._raised = error
            return otherwise()

        return call


def _refuse() -> Any:
    raise OSError("interrupted")
