"""Places: how many requests of a kind are served at the same time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from fastapi import HTTPException


class Places:
    """A number of places, which requests take one each.

    Args:
        refusal: why there is none, as told to a client: "8 viewers are connected".

    Attributes:
        taken: number of places that are taken.
    """

    def __init__(self, limit: int, refusal: str) -> None:
        self.taken, self._limit, self._refusal = 0, limit, refusal
        self._lock = threading.Lock()

    @contextmanager
    def one(self) -> Iterator[None]:
        """Hold a place. May be entered and left in different threads.

        Raises:
            HTTPException: 503, all are taken.
        """
        with self._lock:
            if self.taken >= self._limit:
                raise HTTPException(503, f"{self._refusal}: try again later")
            self.taken += 1
        try:
            yield
        finally:
            with self._lock:
                self.taken -= 1
