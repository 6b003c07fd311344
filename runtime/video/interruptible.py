"""Files whose reads FFmpeg calls, and what Ctrl-C raises in them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Interruptible:
    """A file object for av.open(), which keeps what a signal raises while FFmpeg reads from it.

    FFmpeg takes it for one failed read and tries the next. Here every later read gives the end of the file, so that
    FFmpeg returns, and then check() raises it.

    Args:
        place: has read() and optionally seek() and io_open(), see HlsPlaylist. Everything else of it is passed on.
    """

    def __init__(self, place: Any) -> None:
        self._place = place
        self._raised: BaseException | None = None
        self.read = self._kept(place.read, lambda: b"")
        if hasattr(place, "seek"):
            self.seek = self._kept(place.seek, lambda: -1)
        if hasattr(place, "io_open"):
            self.io_open = self._kept(self._io_open, _refuse)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._place, name)

    def check(self) -> None:
        """Raise what a signal raised since the last call."""
        raised, self._raised = self._raised, None
        if raised is not None:
            raise raised

    def _io_open(self, *arguments: Any) -> Any:
        part = self._place.io_open(*arguments)
        part.read = self._kept(part.read, lambda: b"")
        return part

    def _kept(self, function: Callable[..., Any], otherwise: Callable[[], Any]) -> Callable[..., Any]:
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
