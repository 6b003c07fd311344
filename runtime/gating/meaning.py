"""The meaning gate: decides which windows are put into words. Its settings and their units are in vlj_edge.bundle."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from vlj_edge.bundle import BudgetSettings, MeaningGateSettings
from vlj_edge.decisions import Decision
from vlj_edge.errors import VljEdgeError

from .budget import Budget
from .checks import Checks
from .clip_window import ClipWindow, Embedding, Encoded
from .embedding_noise import EmbeddingNoise, cosine
from .parts import TurnsOfParts

_GROWTH = 0.5  # of the time between two comparisons, with every text since the last turn
_AMONG_PARTS = 2 / 3  # of look_every where several things move at a time


@dataclass(frozen=True)
class Change:
    """A change of meaning that gets a text.

    Attributes:
        embedding: float32 [embedding], unit length.
        similarity: cosine (-1..1) to the embedding of the previous text, or None for the first.
        since: when the change was first seen, seconds: the centre of the window that began to rest or to move, or whose
            embedding differed.
        first, last: times (centres, seconds) of the windows that the embedding is the mean of.
        resting: whether the picture was at rest; None if that is not detected.
        on_device: the same embedding in device memory (Encoded.on_device); None for a mean.
        pictures: of the last of the windows (ClipWindow.pictures).
        apart: 1 - cosine of unrelated moments of this stream, 0..1, if the thresholds are relative to it; 0: unknown.
    """

    embedding: Embedding
    similarity: float | None
    since: float
    first: float
    last: float
    resting: bool | None = None
    on_device: object | None = None
    pictures: Sequence[npt.NDArray[np.uint8]] = ()
    apart: float = 1.0


@dataclass(frozen=True)
class _Candidate:
    """A window with the windows that smoothing averages with it, oldest first."""

    windows: tuple[ClipWindow, ...]

    @property
    def time(self) -> float:
        return self.windows[-1].time

    @cached_property
    def encoded(self) -> Encoded:
        """The embedding of the window, or the mean over the windows, of unit length."""
        if len(self.windows) == 1:
            return self.windows[0].encoded
        mean = np.mean([window.encoded.embedding for window in self.windows], axis=0)
        return Encoded(mean / max(float(np.linalg.norm(mean)), 1e-6))

    @property
    def is_encoded(self) -> bool:
        """Whether its embedding needs no run of the encoder."""
        return all(window.is_encoded for window in self.windows)


class _ReadyCandidates:
    """The candidates since the pending change became ready: the time of the first, and one from about their middle.

    Only two are held, the middle one and its successor, since a change may wait for an hour and its candidates hold
    pictures. Up to six candidates `middle` is exact; of more it lies between the first quarter and the middle.
    """

    def __init__(self, first: _Candidate) -> None:
        self.since, self.middle = first.time, first
        self._next, self._next_index, self._count = first, 0, 1

    def add(self, candidate: _Candidate) -> None:
        self._count += 1
        if self._count == 2:
            self._next, self._next_index = candidate, 1
        elif self._count == 2 * self._next_index + 1:
            self.middle, self._next, self._next_index = self._next, candidate, self._count - 1


class MeaningGate:
    """Decides for each window whether its meaning is new, and whether the stream is steady enough for a text about it.

    - A change becomes *pending* with the window whose smoothed embedding falls below `speak_below` (cosine to the
      embedding of the last text), and is dropped if a later one rises above `forget_above` before it gets a text.
    - It becomes *ready* once the last `calm_windows` are calm, or after `longest_wait`; the window `settle` seconds
      later gets the text.
    - When the picture comes to rest or begins to move (a *turn*), that is a change too: it is ready at once and waits
      for `settle_resting` or `settle_moving` seconds; it gets a text unless its embedding is above `same_above`. A
      change that was still waiting gets its text now, from the window in the middle of its wait.
    - No text follows another within `least_hold`.
    - The first window of a stream is a pending change.
    - A change that the budget refuses a text is looked at again after as long as between two comparisons, and goes on
      being compared with the last text. While the budget allows no run of the encoder, what needs one waits.

    Windows are encoded only where a decision depends on their embedding: those that get a text, and those that are
    compared with the last text, every `look_every` to `longest_look` seconds (two thirds of `look_every` where several
    things move at a time), and every `look_at_rest` while the picture is at rest; also `settle_moving` after something
    begins or stops moving while something else goes on, but not within `least_hold` of the last comparison. Turns only
    make the gate quicker: whatever came before, a lasting change is noticed within the longer of these times. The gate
    holds the latest window (with earlier ones that smoothing and `calm_windows` need) and at most two older ones that
    may still get a text.

    Args:
        budget: None: no limit.
        noise: of the stream, which it goes on learning; None: learned anew.

    Raises:
        VljEdgeError: settings that contradict each other.
    """

    def __init__(
        self, settings: MeaningGateSettings, budget: Budget | None = None, noise: EmbeddingNoise | None = None
    ) -> None:
        highest = max(settings.speak_below, settings.speak_below_at_rest)
        if settings.smoothing < 1 or settings.calm_windows < 1 or settings.forget_above < highest:
            raise VljEdgeError(
                "the meaning gate needs smoothing and calm_windows of at least 1 and a forget_above that neither "
                "speak_below nor speak_below_at_rest exceeds: calibrate it again"
            )
        self._settings, self._budget = settings, budget or Budget(BudgetSettings())
        self.noise = noise or EmbeddingNoise()
        self.noise.begin()
        self._recent: deque[ClipWindow] = deque(maxlen=max(settings.smoothing, settings.calm_windows))
        self._last_embedding: Embedding | None = None
        self._text_at = -np.inf
        self._compared_at = -np.inf
        self._pending_since: float | None = None
        self._ready: _ReadyCandidates | None = None
        self._resting: bool | None = None
        self._turned = False  # the picture came to rest or began to move, and no text followed yet
        self._turned_at = -np.inf
        self._parts = TurnsOfParts()
        self._again_at = -np.inf  # when a turn that the budget refused a text is looked at again
        self._look_left_out = -np.inf  # when a look was last put off
        self._texts_since_turn = 0  # texts after the one that followed the last turn
        self._latest: _Candidate | None = None
        self._check = Checks()
        self._verdict, self._cause = "skipped", ""

    @property
    def last_embedding(self) -> Embedding | None:
        """The embedding of the last text, float32 [embedding]; None before the first."""
        return self._last_embedding

    @property
    def decision(self) -> Decision:
        """What was decided about the latest window."""
        window = None if self._latest is None else self._latest.windows[-1].times.index
        checks, cause = tuple(self._check.made), self._cause or None
        unrelated = self.noise.spread.unrelated if self._settings.relative else None
        return Decision("meaning", self._verdict, checks, cause, window, self.noise.level, unrelated)

    def offer(self, window: ClipWindow) -> Change | None:
        """Take the next window; return the change that gets a text now, if there is one.

        Args:
            window: its time must be later than that of the window before.
        """
        self._recent.append(window)
        self._latest = candidate = _Candidate(tuple(self._recent)[-self._settings.smoothing :])
        self._check.reset()
        self._verdict, self._cause = "skipped", ""
        if not self._settings.enabled:
            self._cause = "off"
            return self._make_change(candidate, window.time) if self._may_encode(candidate) else None
        overdue = self._note_turn(window) if window.at_rest != self._resting else None
        if window.cut:
            self.noise.cut()
        if window.turned_in_part:
            self._parts.note(window.time)
        self._update_pending(candidate)
        change = None
        if self._pending_since is not None:
            self._cause = "first" if self._last_embedding is None else "turn" if self._turned else "change"
            change = self._change_if_ready(candidate, self._pending_since)
        if change is None and overdue is not None:
            self._verdict, self._cause = "text", "overdue"
        return change or overdue

    def _change_if_ready(self, candidate: _Candidate, pending_since: float) -> Change | None:
        """Return the pending change if it gets its text now."""
        settings, check, now = self._settings, self._check, candidate.time
        self._verdict = "waits"
        is_compared = candidate.is_encoded and not self._turned
        gap_is_over = check("least_hold", now - self._text_at, ">=", settings.least_hold)
        if self._ready is not None:
            self._ready.add(candidate)
        elif self._turned or (gap_is_over and (self._has_waited(now - pending_since) or self._is_calm())):
            self._ready = _ReadyCandidates(candidate)
        if self._ready is None or not gap_is_over:
            return None
        settling = self._settling_time()
        if not check(settling, now - self._ready.since, ">=", getattr(settings, settling)):
            return None
        if not self._may_encode(candidate):
            return None
        if not is_compared and not self._is_new(candidate):
            self._verdict = "same" if self._turned else "dropped"
            self._drop_change(now)
            return None
        return self._make_change(candidate, now)

    def flush(self) -> Change | None:
        """Return the change that is still pending at the end of the stream, or None."""
        if self._latest is None or self._pending_since is None:
            return None
        time = self._latest.time
        if time - self._text_at < self._settings.least_hold or not self._may_encode(self._latest):
            return None
        if not self._is_new(self._latest):
            return None
        return self._make_change(self._latest, time)

    def _settling_time(self) -> str:
        """Return the setting of the seconds between the time at which the pending change became ready and the window
        that gets its text."""
        if not self._turned or self._resting is None:
            return "settle"
        return "settle_resting" if self._resting else "settle_moving"

    def _note_turn(self, window: ClipWindow) -> Change | None:
        """Record that the picture came to rest or began to move; return a ready change that would otherwise get no
        text."""
        overdue = None
        ready, since_text = self._ready, window.time - self._text_at
        if (
            ready is not None
            and self._check("least_hold", since_text, ">=", self._settings.least_hold)
            and self._may_encode(ready.middle)
            and ((not self._turned and ready.middle.is_encoded) or self._is_new(ready.middle))
        ):
            overdue = self._make_change(ready.middle, window.time)
        self._resting, self._turned, self._pending_since, self._ready = window.at_rest, True, window.time, None
        self._turned_at, self._again_at = window.time, -np.inf
        self.noise.turn(window.time, window.at_rest)
        return overdue

    def _update_pending(self, candidate: _Candidate) -> None:
        if self._last_embedding is None or self._turned:  # whatever the embedding
            if self._pending_since is None and candidate.time >= self._again_at:
                self._pending_since = candidate.time
        elif self._pending_since is None:
            below = "speak_below_at_rest" if self._resting else "speak_below"
            if getattr(self._settings, below) <= -1:
                self._cause = "off"
            elif self._comparison_is_due(candidate):
                self._verdict = "same"
                if self._is_below(candidate, below):
                    self._pending_since = candidate.time
                else:
                    self._budget.change_is_over()
        elif self._may_look(candidate, 0.0) and not self._is_below(candidate, "forget_above"):
            self._pending_since, self._ready, self._verdict = None, None, "dropped"
            self._budget.change_is_over()

    def _comparison_is_due(self, candidate: _Candidate) -> bool:
        (name, pause), waited = self._pause(), candidate.time - self._compared_at
        due = self._check(name, waited, ">=", pause, getattr(self._settings, name))
        if not due and not self._part_is_due(candidate.time, waited):
            return False
        if not self._may_look(candidate, waited):
            if candidate.time - self._look_left_out >= pause:
                self._look_left_out = candidate.time
                self._budget.leave_out_look()
            return False
        self._compared_at = candidate.time
        self._parts.looked()
        return True

    def _part_is_due(self, now: float, waited: float) -> bool:
        """Return whether something began or stopped moving in a part of the picture, long enough ago to look at."""
        if self._parts.since is None or self._resting or waited < self._settings.least_hold:
            return False
        since = now - self._parts.since
        return self._check("settle_moving", since, ">=", self._settings.settle_moving)

    def _pause(self) -> tuple[str, float]:
        """Return the setting of the time between two comparisons, and that time."""
        settings = self._settings
        if self._resting:
            return "look_at_rest", settings.look_at_rest
        if self._parts.often(self._recent[-1].time):
            return "look_every", settings.look_every * _AMONG_PARTS
        growing = settings.look_every * (1 + _GROWTH * self._texts_since_turn)
        return "look_every", min(growing, max(settings.longest_look, settings.look_every))

    def _may_encode(self, candidate: _Candidate) -> bool:
        """Return whether the budget allows the embedding of a candidate for a text."""
        return candidate.is_encoded or self._budget.allows_encode(self._recent[-1].time, self._check)

    def _may_look(self, candidate: _Candidate, waited: float) -> bool:
        """Return whether the budget allows the embedding for a comparison, `waited` seconds after the last one."""
        return candidate.is_encoded or self._budget.allows_look(candidate.time, waited, self._check)

    def _is_below(self, candidate: _Candidate, setting: str) -> bool:
        """Return whether the embedding is less similar to that of the last text than noise and a setting allow."""
        similarity, threshold = self._similarity(candidate), getattr(self._settings, setting)
        return self._check(setting, similarity, "<", self.noise.limit(threshold, self._settings), threshold)

    def _is_new(self, candidate: _Candidate) -> bool:
        """Return whether a turn changed the embedding, or a change without one has not been undone."""
        if self._last_embedding is None or (self._turned and self._settings.same_above >= 1):
            return True
        if not self._turned:
            return self._is_below(candidate, "forget_above")
        similarity, threshold = self._similarity(candidate), self._settings.same_above
        return self._check("same_above", similarity, "<=", self.noise.limit(threshold, self._settings), threshold)

    def _has_waited(self, seconds: float) -> bool:
        return self._check("longest_wait", seconds, ">=", self._settings.longest_wait)

    def _is_calm(self) -> bool:
        most = self._settings.calm_windows
        if not self._check("calm_windows", len(self._recent), ">=", most):
            return False
        if most == 1:
            return True
        if not self._may_encode(_Candidate(tuple(self._recent)[-most:])):
            return False
        mean = np.mean([window.encoded.embedding for window in list(self._recent)[-most:]], axis=0)
        as_set = self._settings.calm_variance
        most_variance = self.noise.spread.calm(self._settings) if self._settings.relative else as_set
        return self._check("calm_variance", float(1 - mean @ mean), "<=", most_variance, as_set)

    def _learn_spread(self, candidate: _Candidate) -> None:
        if self._settings.relative:
            first, last = candidate.windows[0].times, candidate.windows[-1].times
            self.noise.spread.learn(first.start, last.end, candidate.encoded.embedding)

    def _similarity(self, candidate: _Candidate) -> float:
        assert self._last_embedding is not None
        self._learn_spread(candidate)
        if self._resting and candidate.windows[0].times.start >= self._turned_at:  # all of it shows the resting picture
            self.noise.learn(candidate.time, candidate.encoded.embedding)
        return cosine(candidate.encoded.embedding, self._last_embedding)

    def _drop_change(self, now: float) -> None:
        """Forget a change after which the embedding is the same: it counts as a comparison."""
        self._budget.change_is_over()
        self._compared_at, self._pending_since, self._ready, self._turned = now, None, None, False

    def _make_change(self, candidate: _Candidate, now: float) -> Change | None:
        """Return the change; None if the budget has no text for it."""
        self._learn_spread(candidate)
        similarity = None if self._last_embedding is None else self._similarity(candidate)
        if not self._budget.allows_text(now, similarity, candidate.encoded.embedding, self._check):
            self._verdict = "refused"
            forget_above = self.noise.limit(self._settings.forget_above, self._settings)
            if similarity is not None and similarity >= forget_above:
                self._drop_change(now)  # a turn without a change of meaning does not wait for its text
            self._compared_at, self._again_at = now, now + self._pause()[1]
            self._pending_since, self._ready = None, None
            return None
        self._verdict = "text"
        encoded, windows = candidate.encoded, candidate.windows
        since = candidate.time if self._pending_since is None else min(self._pending_since, candidate.time)
        self._last_embedding, self._text_at, self._compared_at = encoded.embedding, now, now
        self._texts_since_turn = 0 if self._turned else self._texts_since_turn + 1
        self._pending_since, self._ready, self._turned = None, None, False
        self._parts.looked()
        first, last = windows[0], windows[-1]
        times, apart = (since, first.time, last.time), 1.0
        if self._settings.relative:
            self.noise.spread.say()
            moments = self.noise.spread.moments
            apart = 0.0 if moments is None else min(1.0, moments.apart)
        return Change(encoded.embedding, similarity, *times, last.at_rest, encoded.on_device, last.pictures, apart)
