"""Cancelling the threads of one run, and waiting for their end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any, TypeVar

Item = TypeVar("Item")

WAKE: Any = object()  # put into queues that a thread may be waiting for, so that it wakes and checks the cancellation


class Cancelled(BaseException):
    """Raised inside the threads of a run that is being closed; it never reaches a caller.

    A BaseException, so that no `except Exception` in a source catches it.
    """


class Cancellation:
    """A stop request shared by all threads of one run, and the list of those threads."""

    def __init__(self) -> None:
        self._requested = False  # a plain flag: a signal handler may set it in the middle of anything
        self._changing = threading.RLock()  # nothing is added once cancel() has read the lists
        self._queues: list[SimpleQueue[Any]] = []
        self._interrupts: list[Callable[[], None]] = []
        self._threads: list[threading.Thread] = []

    @property
    def requested(self) -> bool:
        """True once cancel() was called."""
        return self._requested

    def check(self) -> None:
        """Return if cancel() was not called.

        Raises:
            Cancelled: cancel() was called.
        """
        if self._requested:
            raise Cancelled

    def until_requested(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yield the items. Raises Cancelled once cancel() was called."""
        for item in items:
            self.check()
            yield item

    def start(self, thread: threading.Thread, *queues: SimpleQueue[Any]) -> None:
        """Start a thread of the run; `queues` are those on which a thread may wait because of it.

        Raises:
            Cancelled: cancel() was called; the thread has not started.
        """
        with self._changing:
            self.check()
            thread.start()
            self._threads.append(thread)
            self._queues += queues

    @contextmanager
    def interrupting(self, *interrupts: Callable[[], None]) -> Iterator[None]:
        """Inside the block, cancel() calls these functions, to end work that does not check the cancellation itself.

        Raises:
            Cancelled: cancel() was called before.
        """
        with self._changing:
            self.check()
            self._interrupts += interrupts
        try:
            yield
        finally:
            with self._changing:  # no call of them is in progress after this
                for interrupt in interrupts:
                    self._interrupts.remove(interrupt)

    def cancel(self) -> None:
        """Request that all threads stop, and wake those that wait. Returns at once; may be called from any thread."""
        self._requested = True
        with self._changing:
            for queue in self._queues:
                queue.put(WAKE)
            for interrupt in self._interrupts:
                interrupt()

    def owns_current_thread(self) -> bool:
        """Return whether the caller is one of the run's own threads."""
        return threading.get_ident() in [thread.ident for thread in self._threads]

    def join(self, seconds: float) -> bool:
        """Wait for the threads to end; return whether all of them have ended, the calling thread excepted."""
        until = time.monotonic() + seconds
        others = [thread for thread in self._threads if thread is not threading.current_thread()]
        for thread in others:
            thread.join(max(0.0, until - time.monotonic()))
        return not any(thread.is_alive() for thread in others)
