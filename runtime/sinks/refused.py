"""Alerts that a destination refuses until a person mends its address or key: they wait, and one is tried at times."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace

from .alert_event import AlertEvent

PAUSES = (30.0, 600.0)  # the first and the longest between two attempts, seconds
_IN_A_ROW = 3  # refusals after which nothing else is sent until the next attempt


class RefusedAlerts:
    """Alerts of one queue that were refused, the oldest first. Those that are kept elsewhere are here without pictures.

    Args:
        pauses: the first pause between two attempts and the longest, seconds; they double with each refusal until one
            of those that wait is delivered.

    Attributes:
        due: time.monotonic() of the next attempt.
        why: one line that says why the last was refused.
        others_first: one of those that wait was refused again, so that the next attempt is another's, if there is one.
    """

    def __init__(self, pauses: tuple[float, float] = PAUSES) -> None:
        self.due, self.why, self._pauses = float("inf"), "", pauses
        self._waiting: deque[AlertEvent] = deque()
        self._refusals = self._in_a_row = 0
        self.others_first = self._trying = False

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[AlertEvent]:
        return iter(self._waiting)

    def clear(self) -> None:
        """Forget all."""
        self._waiting.clear()

    def add(self, event: AlertEvent, why: str) -> float:
        """Let one wait, and return the time.monotonic() until which nothing is to be sent: now, if others may pass."""
        self.why, self.others_first, self._trying = why, self._trying, False
        self._waiting.append(replace(event, picture=None, clip=None) if event.kept else event)
        now, (first, longest) = time.monotonic(), self._pauses
        self.due = now + min(first * 2.0 ** min(self._refusals, 30), longest)
        self._refusals, self._in_a_row = self._refusals + 1, self._in_a_row + 1
        return self.due if self._in_a_row >= _IN_A_ROW else now

    def delivered(self) -> None:
        """Something has arrived. If the destination seemed to refuse everything, those that wait are due."""
        if self._in_a_row >= _IN_A_ROW or self.due <= time.monotonic():
            self.due, self._refusals = 0.0, 0
        self._in_a_row = 0
        self.others_first = self._trying = False

    def take(self, whole: Callable[[AlertEvent], AlertEvent | None]) -> AlertEvent | None:
        """Return the oldest, if it is time for an attempt, and leave it out from now on.

        Args:
            whole: returns one that is kept with its pictures; None: it is kept no longer.
        """
        while self._waiting and self.due <= time.monotonic():
            event = self._waiting.popleft()
            found = whole(event) if event.kept else event
            if found is not None:
                self._trying = True
                return found
        return None

    def remove(self, event: AlertEvent) -> None:
        """Forget one."""
        self._waiting.remove(event)
