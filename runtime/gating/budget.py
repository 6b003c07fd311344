"""The budget: how many texts and encoder runs a stream gets, and which changes are worth them. Times are seconds.

All times are those of the stream, so that a recording gets the same texts however fast it is read.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from vlj_edge.bundle import BudgetSettings

from .checks import Checks
from .clip_window import Embedding
from .embedding_noise import cosine

_HOUR, _MINUTE = 3600.0, 60.0
_SAVED_TEXTS = 1 / 6  # of an hour's texts: so many can be saved up
_FEWEST_SAVED_TEXTS = 3.0  # the same at least: with fewer, there is no choice between changes
_USUALLY_SAVED = 1.5  # texts: with more, the price is lower than the rate asks for
_SAVED_ENCODES = 1 / 2  # of a minute's encoder runs
_FEWEST_SAVED_ENCODES = 2.0
_PATIENCE = 2.0  # mean times between two texts, after which any change is said
_FADING = 20.0  # mean times between two texts, in which the sizes of earlier changes fade
_REMEMBERED = 256  # of these sizes
_LARGEST = 2.0  # 1 - cosine


class TokenBucket:
    """Tokens that come at a steady rate and are kept up to a capacity.

    If one is taken only where there is one, at most capacity + T * per_second are taken within any T seconds.
    """

    def __init__(self, per_second: float, capacity: float, level: float) -> None:
        self.level, self._time = level, -np.inf
        self.set_rate(per_second, capacity)

    def set_rate(self, per_second: float, capacity: float) -> None:
        """Change the rate and the capacity from now on."""
        self.per_second, self.capacity = per_second, capacity
        self.level = min(self.level, capacity)

    def fill(self, time: float) -> float:
        """Add the tokens that have come since the call before; return how many there are."""
        self.level, self._time = self.level_at(time), max(time, self._time)
        return self.level

    def level_at(self, time: float) -> float:
        """Return how many there are at a time. Callable from any thread."""
        passed = max(0.0, time - self._time) if self._time > -np.inf else 0.0
        return min(self.capacity, self.level + passed * self.per_second)


class TextBudget:
    """Decides which changes get a text: the largest ones, at most `per_hour` an hour in the long run.

    A change must be at least as large as a price: the size that, of the latest changes, as many exceed as there will be
    texts for, and more while texts are saved up. While one that was refused lasts, its price falls to zero within the
    mean time between two texts. For any change it is zero once `longest_wait` has passed since the last text, by when
    one is saved up: what lasts is said. Within any T seconds there are at most `burst` + T * per_hour / 3600.

    Attributes:
        longest_wait: seconds, 2 * 3600 / per_hour.
        burst: ten minutes' texts, at least 3.
        left_out: changes that got no text before they were over.
    """

    def __init__(self, per_hour: float) -> None:
        self.left_out = 0
        self._bucket = TokenBucket(0.0, np.inf, 1.0)
        self.set_rate(per_hour)
        self._sizes: deque[tuple[float, float]] = deque(maxlen=_REMEMBERED)  # time, size
        self._said_at = self._began = -np.inf
        self._refused: Embedding | None = None  # of a change that may last
        self._refused_at = -np.inf  # when it first was

    def set_rate(self, per_hour: float) -> None:
        """Change the rate from now on."""
        self._interval = _HOUR / per_hour
        self.longest_wait = _PATIENCE * self._interval
        self.burst = max(_FEWEST_SAVED_TEXTS, _SAVED_TEXTS * per_hour)
        self._bucket.set_rate(1 / self._interval, self.burst)

    def allows(self, time: float, similarity: float | None, embedding: Embedding, check: Checks) -> bool:
        """Return whether a change gets a text, which is then taken from the budget.

        Args:
            similarity: cosine of `embedding` to that of the last text, -1..1; None before the first text.
        """
        size = _LARGEST if similarity is None else 1 - similarity
        lasts = self._refused is not None and 1 - cosine(embedding, self._refused) < size / 2
        if not lasts:
            self.over()
            self._refused_at = time
        price = self.price(time) * max(0.0, 1 - (time - self._refused_at) / self._interval)
        allowed = check("texts_per_hour", self._bucket.fill(time), ">=", 1.0) and check("price", size, ">=", price)
        if similarity is not None:
            self._remember(time, size, lasts)
        self._refused = None if allowed else embedding
        if allowed:
            self._bucket.level -= 1
            self._said_at = time
        return allowed

    def give_back(self) -> None:
        """Give a text back that was taken and not made."""
        self._bucket.level = min(self._bucket.level + 1, self.burst)

    def saved_up(self, time: float) -> float:
        """Return how many texts are saved up at a time. Callable from any thread."""
        return self._bucket.level_at(time)

    def over(self) -> None:
        """Record that a change that got no text, if there is one, does not last."""
        self.left_out += self._refused is not None
        self._refused = None

    def price(self, time: float) -> float:
        """Return the size, 0..2, from which on a change gets a text if one is saved up."""
        saved = self._bucket.fill(time)
        if time - self._said_at >= self.longest_wait or saved >= self.burst or not self._sizes:
            return 0.0
        times, sizes = np.array(self._sizes).T
        fading = _FADING * self._interval
        weights = np.exp((times - time) / fading)
        since = times[0] if len(times) == _REMEMBERED else self._began
        texts = _FADING * (1 - np.exp((since - time) / fading))  # as many as the budget has in that time
        share = texts / weights.sum() * saved / _USUALLY_SAVED
        if share >= 1:
            return 0.0
        order = np.argsort(-sizes)
        last = np.searchsorted(np.cumsum(weights[order]), share * weights.sum())
        return float(sizes[order][min(last, len(sizes) - 1)])

    def _remember(self, time: float, size: float, lasts: bool) -> None:
        if self._began == -np.inf:
            self._began = time
        if lasts and self._sizes:
            self._sizes.pop()  # the same change counts once
        self._sizes.append((time, size))


class EncodeBudget:
    """Decides when the encoder may run, so that it runs at most `per_minute` times a minute in the long run.

    A turn and what follows a change need one run that is saved up. A regular look leaves another one for them, unless
    it has waited for two. So between two looks there are at most 3 * 60 / per_minute seconds more than without a
    budget, and within any T seconds there are at most `burst` + T * per_minute / 60 runs.

    Attributes:
        burst: half a minute's runs, at least 2.
        left_out: looks, or windows of embed() and ask(), that were due and did not run the encoder.
    """

    def __init__(self, per_minute: float) -> None:
        self.left_out = 0
        self._bucket = TokenBucket(0.0, np.inf, np.inf)
        self.set_rate(per_minute)

    def set_rate(self, per_minute: float) -> None:
        """Change the rate from now on."""
        self._interval = _MINUTE / per_minute
        self.burst = max(_FEWEST_SAVED_ENCODES, _SAVED_ENCODES * per_minute)
        self._bucket.set_rate(1 / self._interval, self.burst)

    def allows(self, time: float, check: Checks) -> bool:
        """Return whether a run is saved up."""
        return check("encodes_per_minute", self._bucket.fill(time), ">=", 1.0)

    def allows_regular(self, time: float, waited: float, check: Checks) -> bool:
        """Return whether a run is saved up for a regular look, `waited` seconds after the last look."""
        reserve = 0.0 if waited >= 2 * self._interval else 1.0
        return check("encodes_per_minute", self._bucket.fill(time), ">=", 1.0 + reserve)

    def take(self) -> None:
        """Count a run of the encoder, if need be one that has yet to come."""
        self._bucket.level -= 1


class Budget:
    """The texts and encoder runs of one stream, without a limit where its settings have none.

    Several runs over the stream, one after another, may share it.

    Attributes:
        changes_left_out: TextBudget.left_out of the latest run.
        looks_left_out: EncodeBudget.left_out of the latest run.
    """

    def __init__(self, settings: BudgetSettings, begun_at: float = 0.0) -> None:
        self._texts: TextBudget | None = None
        self._encodes: EncodeBudget | None = None
        self._latest = begun_at
        self.begin(settings, begun_at)

    def begin(self, settings: BudgetSettings, begun_at: float) -> None:
        """Begin a run, with what the one before has saved up.

        Args:
            begun_at: when its time 0 is, seconds, on the clock of the run before.
        """
        texts, encodes = settings.texts_per_hour, settings.encodes_per_minute
        if texts == 0 or self._texts is None:
            self._texts = TextBudget(texts) if texts > 0 else None
        else:
            self._texts.set_rate(texts)
            self._texts.over()
            self._texts.left_out = 0
        if encodes == 0 or self._encodes is None:
            self._encodes = EncodeBudget(encodes) if encodes > 0 else None
        else:
            self._encodes.set_rate(encodes)
            self._encodes.left_out = 0
        self._begun_at = max(self._latest, begun_at)

    def allows_text(self, time: float, similarity: float | None, embedding: Embedding, check: Checks) -> bool:
        """Return whether a change gets a text, which is then taken from the budget; see TextBudget.allows().

        Args:
            check: makes the comparisons.
        """
        return self._texts is None or self._texts.allows(self._now(time), similarity, embedding, check)

    def give_text_back(self) -> None:
        """Give a text back that was taken and not made."""
        if self._texts is not None:
            self._texts.give_back()

    def change_is_over(self) -> None:
        """Record that a change that got no text, if there is one, does not last."""
        if self._texts is not None:
            self._texts.over()

    def allows_encode(self, time: float, check: Checks) -> bool:
        """Return whether the encoder may run for what cannot wait."""
        return self._encodes is None or self._encodes.allows(self._now(time), check)

    def allows_look(self, time: float, waited: float, check: Checks) -> bool:
        """Return whether it may run for a look that can wait, `waited` seconds after the last one."""
        return self._encodes is None or self._encodes.allows_regular(self._now(time), waited, check)

    def leave_out_look(self) -> None:
        """Count a look that the budget did not allow when it was due."""
        if self._encodes is not None:
            self._encodes.left_out += 1

    def take_encode(self) -> None:
        """Count a run of the encoder."""
        if self._encodes is not None:
            self._encodes.take()

    def texts_saved_up(self, clock: float) -> float | None:
        """Return how many texts could be made now; None: there is no limit. Callable from any thread.

        Args:
            clock: the present time on the clock of begin(), seconds.
        """
        texts = self._texts
        return None if texts is None else round(texts.saved_up(max(self._latest, clock)), 2)

    @property
    def changes_left_out(self) -> int:
        return 0 if self._texts is None else self._texts.left_out

    @property
    def looks_left_out(self) -> int:
        return 0 if self._encodes is None else self._encodes.left_out

    def _now(self, time: float) -> float:
        self._latest = max(self._latest, self._begun_at + time)
        return self._latest
