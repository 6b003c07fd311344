"""One run over a source: its results, its counts so far, and its closing."""

from __future__ import annotations

import atexit
import os
import threading
import time
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from types import TracebackType
from typing import Any, Generic, TypeVar

from vlj_edge.errors import SourceBrokeOff, VljEdgeError
from vlj_edge.results import Totals

from ..video.source import Source
from .cancellation import Cancellation, Cancelled

Item = TypeVar("Item")

# Seconds to wait for the threads to end by themselves, for them to end after the source is closed, and for close().
_GRACE, _AFTER_CLOSE, _LIMIT = 0.5, 0.35, 0.9


class Run(Iterator[Item], Generic[Item]):
    """One run over a source: an iterator over its results and a context manager. Iterate over it once.

    Results are yielded as soon as they are decided. The run is closed by its end, an error, Ctrl-C, leaving `with`,
    `break` in a for loop (nothing refers to it any more), close() from any thread, or the end of the process. Closing
    takes less than a second, whatever the source does, and ends its threads and the source. If a caller's own Source
    does not return from a read, interrupt() or close(), that call is left behind in a thread that holds no engine.

    Example:
        >>> import vlj_edge
        >>> with vlj_edge.load() as model, model.narrate("examples/media/demo.mp4") as run:
        ...     print(next(run).text)
        the robot arm stays still

    Raises, at the end of the iteration:
        SourceBrokeOff: everything before the break has been yielded.
    """

    def __init__(
        self, items: Generator[Item, None, None], source: Source, totals: Totals, cancellation: Cancellation
    ) -> None:
        self._items, self._source, self._cancellation = _to_the_end(items, source), source, cancellation
        self._totals, self._ended = totals, False
        self._started = time.perf_counter()
        self._finish = _Finish(source, cancellation)
        self._closer: threading.Thread | None = None
        self._process = os.getpid()
        self._advancing_thread = 0
        self._advancing = threading.Lock()  # held while an item is being made: a generator runs in one thread at a time
        _open_runs.add(self)

    @property
    def live(self) -> bool:
        """True for a camera or stream, where windows may be dropped; False for a file."""
        return self._source.live

    @property
    def totals(self) -> Totals:
        """The counts so far; correct at any time, also after an interruption."""
        if not self._ended:
            self._totals.video_seconds = self._source.seconds
            self._totals.video_end = self._source.end
            self._totals.wall_seconds = time.perf_counter() - self._started
        return self._totals

    def __next__(self) -> Item:
        if self._cancellation.requested:
            raise StopIteration
        if self._advancing_thread == threading.get_ident() or self._cancellation.owns_current_thread():
            raise VljEdgeError("a run cannot be advanced from inside itself, such as from watch: iterate in one place")
        try:
            with self._advancing:
                self._advancing_thread = threading.get_ident()
                try:
                    return next(self._items)
                finally:
                    self._advancing_thread = 0
        except Cancelled:  # another thread is closing the run and does the rest
            raise StopIteration from None
        except BaseException as error:  # the end, an error or Ctrl-C: nothing comes after it
            if isinstance(error, Exception) and self._cancellation.requested:  # interrupted work may fail
                raise StopIteration from None
            self.close()
            raise

    def close(self) -> None:
        """Stop, release the source, and return within a second. The totals stay. Callable from any thread, repeatedly.

        Raises:
            Exception: what the source's own interrupt() or close() raised.
        """
        self._begin_to_close()
        if not self._cancellation.owns_current_thread():  # which ends once this returns
            self._wait_until_closed(time.monotonic() + _LIMIT)

    def _begin_to_close(self) -> None:
        """Start closing in another thread, which Ctrl-C does not interrupt and which a source may block."""
        if os.getpid() != self._process:  # in a forked child: the threads and the camera belong to the parent
            return
        _ = self.totals
        self._ended = True
        if self._closer is None:
            self._closer = threading.Thread(target=self._finish.run, name="vlj-edge close", daemon=True)
            try:
                self._closer.start()
            except RuntimeError:  # the interpreter is shutting down and starts no more threads (Python 3.12)
                self._finish.run()

    def _wait_until_closed(self, deadline: float) -> None:
        if os.getpid() != self._process:
            return
        if self._closer is not None and self._closer.is_alive():
            self._closer.join(max(0.0, deadline - time.monotonic()))
        if self._advancing.acquire(blocking=False):  # otherwise its thread closes it on return
            try:
                self._items.close()
            finally:
                self._advancing.release()
        _open_runs.discard(self)
        errors, self._finish.errors = self._finish.errors, []
        if errors:
            raise errors[0]

    def __enter__(self) -> Run[Item]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_closer", self) is None:  # the constructor finished, and the run was not closed
            with suppress(Exception):  # it could not be caught here
                self.close()


class _Finish:
    """The steps of closing. Separate from Run, so that closing does not keep an unreferenced Run alive."""

    def __init__(self, source: Source, cancellation: Cancellation) -> None:
        self._source, self._cancellation = source, cancellation
        self.errors: list[Exception] = []

    def run(self) -> None:
        self._cancellation.cancel()
        self._attempt(self._source.interrupt)
        self._cancellation.join(_GRACE)
        self._attempt(self._source.close)
        self._cancellation.join(_AFTER_CLOSE)

    def _attempt(self, step: Callable[[], None]) -> None:
        try:
            step()
        except Exception as error:  # a caller's own source may raise anything; the other steps must follow
            self.errors.append(error)


def close_all(runs: Iterable[Run[Any]]) -> None:
    """Close several runs at once, within the second that one may take."""
    runs, deadline = list(runs), time.monotonic() + _LIMIT
    for run in runs:
        run._begin_to_close()
    for run in runs:
        run._wait_until_closed(deadline)


def _to_the_end(items: Iterable[Item], source: Source) -> Generator[Item, None, None]:
    yield from items
    if source.incomplete is not None:  # only now, after everything before the break was yielded
        raise SourceBrokeOff(source.incomplete)


_open_runs: weakref.WeakSet[Run[Any]] = weakref.WeakSet()


@atexit.register
def _close_open_runs() -> None:
    """A thread that is inside native code while the interpreter shuts down would abort the process."""
    with suppress(Exception):
        close_all(_open_runs)
