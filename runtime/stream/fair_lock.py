"""A FIFO lock: threads get it in the order of their requests, so that none of them starves."""

from __future__ import annotations

import threading
from collections import deque
from typing import NamedTuple


class _Ticket(NamedTuple):
    """A place in the queue: its thread, and a lock that is released once every ticket before it is gone."""

    thread: int
    turn: threading.Lock


class FairLock:
    """A mutual-exclusion lock that serves waiting threads first come, first served. Use it with `with`.

    threading.Lock has no order: a thread that releases it and requests it again at once may always get it, and one
    camera of several would never be encoded. It is not reentrant. Ctrl-C while waiting removes the thread from the
    queue. Ctrl-C during the few instructions of a release can leave the lock held, until the same thread requests it
    again.
    """

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._queue: deque[_Ticket] = deque()  # the first one is the holder's

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self._leave(self._queue[0])

    def acquire(self, timeout: float = -1) -> bool:
        """Wait for the lock, at most `timeout` seconds (-1: for ever); return whether it is held."""
        ticket = _Ticket(threading.get_ident(), threading.Lock())
        ticket.turn.acquire()
        acquired = False
        try:
            with self._mutex:
                if self._queue and self._queue[0].thread == ticket.thread:  # left behind by Ctrl-C
                    self._queue.popleft()
                    self._serve_first()
                self._queue.append(ticket)
                if self._queue[0] is ticket:
                    ticket.turn.release()
            acquired = ticket.turn.acquire(timeout=timeout)
        finally:
            if not acquired:
                self._leave(ticket)
        return acquired

    def _leave(self, ticket: _Ticket) -> None:
        with self._mutex:
            places = [place for place, each in enumerate(self._queue) if each is ticket]
            if not places:
                return
            del self._queue[places[0]]
            if places[0] == 0:
                self._serve_first()

    def _serve_first(self) -> None:
        if self._queue and self._queue[0].turn.locked():
            self._queue[0].turn.release()
