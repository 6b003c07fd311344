"""Which pictures an MQTT broker takes. One that is too large for it makes it end the connection without a word."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable

_LOG = logging.getLogger(__name__)
LARGE = 10_000  # bytes; what is smaller every broker takes
_CUTS = 3  # connections in a row that end while a picture is on its way, before such are left out


class PictureLimit:
    """Tells a broker that refuses large pictures from a network that fails.

    Large pictures are published only on connections over which the broker has answered, and each is followed by a
    question of its own. One whose question has no answer when the connection ends is suspect. If that happens three
    times in a row, and the broker answers on a connection without it, none of that size is published for a while.

    Args:
        broker: its name in the log.
        pauses: seconds for which pictures are left out: the first time, and at most; they double each time.
    """

    def __init__(
        self,
        broker: str,
        pauses: tuple[float, float] = (600.0, 86_400.0),
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._broker, self._pauses, self._now = broker, pauses, now
        self._answers = False  # on this connection
        self._questions: dict[int, int] = {}  # on this connection: bytes of the picture before each
        self._suspect = self._cuts = 0
        self._refused, self._times, self._until = sys.maxsize, 0, 0.0

    @property
    def waits(self) -> bool:
        """Whether the broker has not answered on this connection yet, and large pictures wait for that."""
        return not self._answers

    def allows(self, size: int) -> bool:
        """Return whether the broker may take a picture of so many bytes."""
        refused = self._refused if self._now() < self._until else sys.maxsize
        return size < LARGE or size < (self._suspect if self._cuts >= _CUTS else refused)

    def asked(self, question: int, size: int) -> None:
        """The broker was asked for an answer, after a picture of so many bytes; 0: after none."""
        self._questions[question] = size

    def answered(self, question: int) -> bool:
        """Take an answer of the broker. Return whether it is the first on this connection."""
        size = self._questions.pop(question, -1)
        if size == 0 and self._cuts >= _CUTS:
            self._refuse(self._suspect)
        elif size >= LARGE and size >= self._suspect:
            self._suspect = self._cuts = 0
        if size >= self._refused and self._now() >= self._until:
            self._refused, self._times = sys.maxsize, 0
        first, self._answers = size == 0 and not self._answers, self._answers or size >= 0
        return first

    def lost(self, by_broker: bool) -> None:
        """The connection has ended; `by_broker`: not because nothing came over it any more."""
        largest = max(self._questions.values(), default=0) if by_broker else 0
        again = largest and self._cuts < _CUTS  # else it ends without a picture, too
        self._suspect, self._cuts = (max(self._suspect, largest), self._cuts + 1) if again else (0, 0)
        self._questions.clear()
        self._answers = False

    def _refuse(self, size: int) -> None:
        first, longest = self._pauses
        pause = min(first * 2.0 ** min(self._times, 30), longest)
        line = "%s ends the connection at a picture of %d bytes: raise its limit; none is published for %.0f minutes"
        _LOG.warning(line, self._broker, size, pause / 60)
        self._refused, self._times, self._until = size, self._times + 1, self._now() + pause
        self._suspect = self._cuts = 0
