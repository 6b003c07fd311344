"""One run over a source: what comes out, the counts so far, and the end, however it comes."""

from __future__ import annotations

import atexit
import threading
import time
import weakref
from collections.abc import Generator, Iterable, Iterator
from contextlib import suppress
from types import TracebackType
from typing import Any, Generic, TypeVar

from vlj_edge.errors import VljEdgeError
from vlj_edge.results import Totals

from ..video.source import Source
from .cancellation import Cancellation, Cancelled

Item = TypeVar("Item")

# Seconds for the threads to end by themselves, and after the source was closed under them. Together below one second.
_GRACE, _AFTER_CLOSE = 0.5, 0.4


class Run(Iterator[Item], Generic[Item]):
    """One run over a source: an iterator over its results and a context manager. Iterate over it once.

    Results come out as soon as they are decided. The run is closed by its end, an error, Ctrl-C, leaving `with`,
    `break` in a for loop (nothing refers to it any more), close() from any thread, or the end of the process. Closing
    takes less than a second, whatever the source does, and ends its threads and the source. Only a
    read that a Source of the caller's own never returns from can outlast it, in a thread that holds nothing else.

    Example:
        >>> import vlj_edge
        >>> with vlj_edge.load() as model, model.narrate("examples/media/demo.mp4") as run:
        ...     print(next(run).text)
        the robot arm stays still

    Raises, at the end of the iteration:
        VljEdgeError: the source broke off; everything before the break has come out.
    """

    def __init__(
        self, items: Generator[Item, None, None], source: Source, totals: Totals, cancellation: Cancellation
    ) -> None:
        self._items, self._source, self._cancellation = _to_the_end(items, source), source, cancellation
        self._totals, self._ended = totals, False
        self._started = time.perf_counter()
        self._advancing = threading.Lock()  # held while an item is being made: a generator runs in one thread at a time
        _open_runs.add(self)

    @property
    def live(self) -> bool:
        """True for a camera or stream, where windows may be dropped; False for a file."""
        return self._source.live

    @property
    def totals(self) -> Totals:
        """The counts so far; right at any time, also after an interruption."""
        if not self._ended:
            self._totals.video_seconds = self._source.seconds
            self._totals.wall_seconds = time.perf_counter() - self._started
        return self._totals

    def __next__(self) -> Item:
        if self._cancellation.requested:
            raise StopIteration
        try:
            with self._advancing:
                return next(self._items)
        except Cancelled:  # closed by another thread, which does the rest
            raise StopIteration from None
        except BaseException as error:  # the end, an error or Ctrl-C: nothing comes after it
            if isinstance(error, Exception) and self._cancellation.requested:  # what was interrupted may fail
                raise StopIteration from None
            self.close()
            raise

    def close(self) -> None:
        """Stop, release the source, and return within a second. The totals stay. Any thread, any number of times."""
        _ = self.totals
        self._ended = True
        self._cancellation.cancel()
        self._source.interrupt()
        self._cancellation.join(_GRACE)
        self._source.close()
        self._cancellation.join(_AFTER_CLOSE)
        if self._advancing.acquire(blocking=False):  # otherwise the thread that is inside closes them by leaving
            try:
                self._items.close()
            finally:
                self._advancing.release()
        _open_runs.discard(self)

    def __enter__(self) -> Run[Item]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        cancellation = getattr(self, "_cancellation", None)  # None where the constructor failed
        if cancellation is not None and not cancellation.requested:
            with suppress(Exception):  # nobody could catch it here
                self.close()


def _to_the_end(items: Iterable[Item], source: Source) -> Generator[Item, None, None]:
    yield from items
    if source.incomplete is not None:  # only now, when everything before the break has come out
        raise VljEdgeError(source.incomplete)


_open_runs: weakref.WeakSet[Run[Any]] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """A thread that is inside native code while the interpreter goes down would abort the process."""
    for run in list(_open_runs):
        run.close()
