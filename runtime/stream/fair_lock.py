"""A FIFO lock: threads get it in the order in which they asked, so that none of them starves."""

from __future__ import annotations

import threading
from collections import deque


class FairLock:
    """A mutual-exclusion lock that serves waiting threads first come, first served. Use it with `with`.

    threading.Lock makes no promise about order: a thread that releases it and asks again at once may always win, and
    one camera of several would then never be encoded. Ctrl-C at any point leaves the lock free or properly held.
    """

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._queue: deque[threading.Lock] = deque()  # one ticket a thread; the first one is the holder's

    def __enter__(self) -> None:
        ticket = threading.Lock()
        ticket.acquire()
        try:
            with self._mutex:
                self._queue.append(ticket)
                if self._queue[0] is ticket:
                    ticket.release()
            ticket.acquire()  # released once every ticket before this one is gone
        except BaseException:  # KeyboardInterrupt while waiting: give the place up
            self._leave(ticket)
            raise

    def __exit__(self, *_: object) -> None:
        self._leave(self._queue[0])

    def _leave(self, ticket: threading.Lock) -> None:
        with self._mutex:
            if ticket not in self._queue:
                return
            was_first = self._queue[0] is ticket
            self._queue.remove(ticket)
            if was_first and self._queue:
                self._queue[0].release()
