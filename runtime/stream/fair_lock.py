"""Turns at something that only one thread can use: first come, first served, so that none waits for ever."""

from __future__ import annotations

import threading
from collections import deque


class FairLock:
    """A lock that is given in the order in which it was asked for. Use it with `with`."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._waiting: deque[threading.Lock] = deque()
        self._taken = False

    def __enter__(self) -> None:
        with self._mutex:
            if not self._taken:
                self._taken = True
                return
            place = threading.Lock()
            place.acquire()
            self._waiting.append(place)
        place.acquire()  # until whoever goes before lets go of it

    def __exit__(self, *_: object) -> None:
        with self._mutex:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._taken = False
