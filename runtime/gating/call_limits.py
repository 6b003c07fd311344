"""What keeps calls within limits besides the budget of changes: tokens of a day, calls of questions, and pauses while
there is no answer."""

from __future__ import annotations

import threading
import time
from collections import deque

from .budget import TokenBucket

_DAY, _HOUR = 86_400.0, 3600.0
_KEPT_FOR_QUESTIONS = 0.1  # of the tokens of a day
_QUESTIONS_SAVED = 1 / 6  # of an hour's questions: so many can be saved up
_FEWEST_QUESTIONS_SAVED = 3.0
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0  # seconds


class DailyTokens:
    """The tokens of the last 24 hours. As many are kept free as the largest of the latest calls took.

    Attributes:
        limit: 0: there is none.
    """

    def __init__(self) -> None:
        self.limit = 0
        self._lock = threading.Lock()
        self._taken: deque[tuple[float, int]] = deque()  # time.monotonic(), tokens
        self._largest = 0

    def add(self, tokens: int) -> None:
        """Count the tokens of a call."""
        with self._lock:
            self._taken.append((time.monotonic(), tokens))
            self._largest = max(tokens, self._largest // 2)
            self._forget()

    def left(self) -> int | None:
        """Return how many are left; None without a limit."""
        if not self.limit:
            return None
        with self._lock:
            self._forget()
            return max(0, self.limit - sum(tokens for _, tokens in self._taken))

    def allow(self, keep_for_questions: bool = False) -> bool:
        """Return whether another call stays within the limit.

        Args:
            keep_for_questions: leave a tenth of the limit for questions.
        """
        left = self.left()
        if left is None:
            return True
        kept = round(self.limit * _KEPT_FOR_QUESTIONS) if keep_for_questions else 0
        return left > kept and left - kept >= min(self._largest, self.limit - kept)

    def _forget(self) -> None:
        while self._taken and self._taken[0][0] < time.monotonic() - _DAY:
            self._taken.popleft()


class QuestionCalls:
    """The calls of questions, such as whether an alert is true: so many an hour by the clock, in the long run. They are
    saved up to ten minutes' calls, at least three, and there are as many at the start. Callable from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bucket: TokenBucket | None = None

    def set_limit(self, per_hour: float) -> None:
        """Change the limit from now on; 0: there is none."""
        with self._lock:
            capacity = max(_FEWEST_QUESTIONS_SAVED, _QUESTIONS_SAVED * per_hour)
            if not per_hour:
                self._bucket = None
            elif self._bucket is None:
                self._bucket = TokenBucket(per_hour / _HOUR, capacity, capacity)
            else:
                self._bucket.fill(time.monotonic())
                self._bucket.set_rate(per_hour / _HOUR, capacity)

    def take(self) -> bool:
        """Take a call, if there is one; return whether there was."""
        with self._lock:
            if self._bucket is None:
                return True
            found = self._bucket.fill(time.monotonic()) >= 1
            self._bucket.level -= found
            return found

    def give_back(self) -> None:
        """Give a call back that got no answer."""
        with self._lock:
            if self._bucket is not None:
                self._bucket.level = min(self._bucket.level + 1, self._bucket.capacity)

    def left(self) -> float | None:
        """Return how many there are now; None without a limit."""
        with self._lock:
            return None if self._bucket is None else round(self._bucket.level_at(time.monotonic()), 2)


class Pause:
    """The pause before the next call while calls get no answer: none after the first, then a second, which doubles with
    each call up to a minute, or to the mean time between two calls that a limit allows. Times are seconds on one clock.
    """

    def __init__(self) -> None:
        self._failed, self._until = 0, 0.0

    def add(self, time: float, per_hour: float) -> None:
        """Count a call without an answer, which ended at that time.

        Args:
            per_hour: the limit of calls; 0: none.
        """
        self._failed += 1
        longest = max(_LONGEST_PAUSE, _HOUR / per_hour if per_hour else 0.0)
        pause = min(_FIRST_PAUSE * 2.0 ** min(self._failed - 2, 30), longest)
        self._until = time + (pause if self._failed > 1 else 0.0)

    def end(self) -> None:
        """Record an answer."""
        self._failed, self._until = 0, 0.0

    def left(self, time: float) -> float:
        """Return how long it still lasts; 0: there is none."""
        return max(0.0, self._until - time)
