"""A sink in a thread of its own, behind a bounded queue: one that is slow or fails stops neither the narration nor the
other sinks."""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from typing import Any

from vlj_edge.errors import VljEdgeError

from .base import Event, Refused, Sink, _printable

CLOSING_SECONDS = 10.0  # for a sink's own close(), once the queue is done with


class SinkQueue:
    """Hands events to a sink, in their order, from a thread of its own.

    Args:
        name: what state() and the thread are called.
        capacity: how many events wait at most; beyond it the oldest is dropped and counted as missed.
        retry: an event that fails stays and is tried again, after pauses that double with jitter; what comes meanwhile
            waits behind it. Otherwise it is missed.
        pauses: the first pause and the longest, seconds.

    Attributes:
        failed: how many times the sink raised; with `retry` an event can fail often and arrive.
    """

    def __init__(
        self,
        name: str,
        sink: Sink,
        capacity: int = 256,
        retry: bool = False,
        pauses: tuple[float, float] = (0.5, 30.0),
    ) -> None:
        if capacity < 1:
            raise VljEdgeError(f"{name}: a queue of {capacity} events holds nothing: give 1 or more")
        self.failed = 0
        self._name, self._sink, self._capacity, self._retry, self._pauses = name, sink, capacity, retry, pauses
        self._changed = threading.Condition()
        self._queue: deque[Event] = deque()
        self._current: Event | None = None  # with the sink just now, and no longer in the queue
        self._delivered = self._missed = self._in_a_row = 0
        self._error: str | None = None
        self._resume = 0.0  # no attempt before then, by time.monotonic()
        self._deadline: float | None = None  # set by close()
        self._drained = threading.Event()  # all was delivered, or given up
        self._thread = threading.Thread(target=self._work, name=f"outlet {name}", daemon=True)
        self._thread.start()

    def put(self, event: Event) -> None:
        """Queue an event; never waits for the sink. After close() it is missed."""
        with self._changed:
            if self._deadline is not None:
                self._missed += 1
                return
            self._queue.append(event)
            self._drop_oldest()
            self._changed.notify_all()

    def close(self, timeout: float = 5.0) -> None:
        """Deliver what waits for at most `timeout` seconds, count the rest as missed, and close the sink.

        A sink that hangs is left to its thread, which closes it if it ever comes back. May be called twice.
        """
        with self._changed:
            if self._deadline is None:
                self._deadline = time.monotonic() + timeout
                self._resume = 0.0  # one attempt at once, whatever pause was going on
            self._changed.notify_all()
        if not self._drained.wait(timeout):
            self._give_up()
        # A sink that hangs in take() is not waited for any longer; one that closes has still things to finish.
        self._thread.join(CLOSING_SECONDS if self._current is None else 0.5)

    def state(self) -> dict[str, Any]:
        """Plain JSON types: name, queued (with the one that is being delivered), delivered, missed, last_error."""
        with self._changed:
            lost = int(getattr(self._sink, "missed", 0))
            return {
                "name": self._name,
                "queued": len(self._queue) + (self._current is not None and not self._drained.is_set()),
                "delivered": self._delivered - lost,
                "missed": self._missed + lost,
                "last_error": _printable(getattr(self._sink, "last_error", None)) or self._error,
            }

    def _work(self) -> None:
        while (event := self._next()) is not None:
            self._settle(event, self._attempt(event))
        self._give_up()
        try:
            self._sink.close()
        except Exception as error:  # of a sink somebody else wrote; there is nobody left to raise it to
            self._fail(error)

    def _next(self) -> Event | None:
        """The event to try, once it is time; None when nothing more is to be done."""
        with self._changed:
            while True:
                now = time.monotonic()
                if self._deadline is not None and (not self._queue or now >= self._deadline):
                    return None
                if self._queue and now >= self._resume:
                    self._current = self._queue.popleft()
                    return self._current
                until = min(self._resume, self._deadline or self._resume)
                self._changed.wait(until - now if self._queue else None)

    def _attempt(self, event: Event) -> Exception | None:
        try:
            self._sink.take(event)
        except Exception as error:  # whatever it is, the thread must go on
            return error
        return None

    def _settle(self, event: Event, error: Exception | None) -> None:
        again = self._retry and isinstance(error, (VljEdgeError, OSError)) and not isinstance(error, Refused)
        if error is not None:
            self._fail(error)
        with self._changed:
            self._current = None
            if self._drained.is_set():  # close() has counted it as missed
                return
            if error is None:
                self._delivered += 1
            elif again:
                self._queue.appendleft(event)
                self._drop_oldest()  # which is this one, where the queue has filled up meanwhile
                self._resume = time.monotonic() + self._pause()
            else:
                self._missed += 1
            self._in_a_row = self._in_a_row + 1 if again else 0

    def _pause(self) -> float:
        first, longest = self._pauses
        # Jitter, so that many devices do not come back to one server at the same moment.
        return float(min(first * 2 ** min(self._in_a_row, 30), longest) * random.uniform(0.5, 1.0))

    def _drop_oldest(self) -> None:
        while len(self._queue) > self._capacity:
            self._queue.popleft()
            self._missed += 1

    def _give_up(self) -> None:
        """Count what is left as missed, once."""
        with self._changed:
            if self._drained.is_set():
                return
            hangs = self._current is not None
            self._missed += len(self._queue) + hangs
            self._queue.clear()
            self._drained.set()
        interrupt = getattr(self._sink, "interrupt", None)
        if hangs and interrupt is not None:
            interrupt()

    def _fail(self, error: Exception) -> None:
        known = isinstance(error, (VljEdgeError, OSError))
        line = _printable(str(error) if known else f"{type(error).__name__}: {error}") or type(error).__name__
        with self._changed:
            self.failed += 1
            self._error = line
