"""Events that others pass: alerts that a destination refuses until a person mends its address or key, and what alone
fails. They wait, and one is tried at times."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace

from .alert_event import AlertEvent
from .base import AnyEvent

PAUSES = (30.0, 600.0)  # the first and the longest between two attempts, seconds
_IN_A_ROW = 3  # refusals after which nothing else is sent until the next attempt


class RefusedAlerts:
    """Events of one queue that wait aside, the oldest first. Alerts that are kept elsewhere are here without pictures.

    Args:
        pauses: the first pause between two attempts and the longest, seconds; they double with each refusal until one
            of those that wait is delivered.

    Attributes:
        due: time.monotonic() of the next attempt.
        why: one line that says why the last was refused, or failed.
        others_first: one of those that wait was refused again, so that the next attempt is another's, if there is one.
        trying: the attempt that is being made is of one that take() has returned.
    """

    def __init__(self, pauses: tuple[float, float] = PAUSES) -> None:
        self.due, self.why, self._pauses = float("inf"), "", pauses
        self._waiting: deque[AnyEvent] = deque()
        self._refusals = self._in_a_row = 0
        self.others_first = self.trying = False

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[AnyEvent]:
        return iter(self._waiting)

    def clear(self) -> None:
        """Forget all."""
        self._waiting.clear()

    def add(self, event: AnyEvent, why: str, oldest: bool = False) -> float:
        """Let one wait, and return the time.monotonic() until which nothing is to be sent: now, if others may pass."""
        self.why, self.others_first, self.trying = why, self.trying, False
        if isinstance(event, AlertEvent) and event.kept:
            event = replace(event, picture=None, clip=None)
        self._waiting.insert(0 if oldest else len(self._waiting), event)
        now, (first, longest) = time.monotonic(), self._pauses
        self.due = now + min(first * 2.0 ** min(self._refusals, 30), longest)
        self._refusals, self._in_a_row = self._refusals + 1, self._in_a_row + 1
        return self.due if self._in_a_row >= _IN_A_ROW else now

    def delivered(self, recovered: bool) -> None:
        """Something has arrived. If the destination seemed to refuse everything, or had failed before (`recovered`),
        those that wait are due."""
        if recovered or self._in_a_row >= _IN_A_ROW or self.due <= time.monotonic():
            self.due, self._refusals = 0.0, 0
        self._in_a_row = 0
        self.others_first = self.trying = False

    def take(self, whole: Callable[[AlertEvent], AlertEvent | None]) -> AnyEvent | None:
        """Return the oldest, if it is time for an attempt, and leave it out from now on.

        Args:
            whole: returns one that is kept with its pictures; None: it is kept no longer. What it raises passes, and
                the event goes on waiting.
        """
        while self._waiting and self.due <= time.monotonic():
            event = self._waiting[0]
            found = whole(event) if isinstance(event, AlertEvent) and event.kept else event
            self._waiting.popleft()
            if found is not None:
                self.trying = True
                return found
        return None

    def remove(self, event: AnyEvent) -> None:
        """Forget one."""
        self._waiting.remove(event)
