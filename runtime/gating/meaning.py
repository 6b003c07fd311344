"""The three gates, each of which skips the work behind it, and what the second one watches besides meaning: whether the
picture is at rest. The second asks the first: it has a window encoded only where its decision hangs on what that means.
Settings and their units are in vlj_edge.bundle."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import numpy.typing as npt

from vlj_edge import bundle
from vlj_edge.errors import VljEdgeError

Embedding = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Encoded:
    """What a window means: float32 [embedding], unit length, and where the predictor keeps the same (Engine.keep)."""

    embedding: Embedding
    kept: object | None = None


@dataclass(frozen=True)
class Change:
    """Something to say.

    Attributes:
        embedding: float32 [embedding], unit length.
        similarity: cosine to what was said before, or None.
        first, last: times of the windows that the embedding is the mean of.
        resting: was the picture at rest? None where nobody watched.
        kept: the same embedding, where the predictor keeps it; None where it does not, or for a mean.
    """

    embedding: Embedding
    similarity: float | None
    first: float
    last: float
    resting: bool | None = None
    kept: object | None = None


class Offered:
    """A window that the gate was offered. It is encoded when its meaning is asked for, and then only once.

    Attributes:
        first, time: of the oldest window that is averaged with it, and its own.
        windows: what encodes those, the oldest first.
    """

    def __init__(self, times: Sequence[float], windows: Sequence[Callable[[], Encoded]], resting: bool | None) -> None:
        self.first, self.time, self.windows, self.resting = times[0], times[-1], windows, resting

    @cached_property
    def encoded(self) -> Encoded:
        """Its meaning, or the mean of its windows, of unit length."""
        if len(self.windows) == 1:
            return self.windows[0]()
        mean = np.mean([window().embedding for window in self.windows], axis=0)
        return Encoded(mean / max(float(np.linalg.norm(mean)), 1e-6))


class MeaningGate:
    """Is there something new to say, and has the stream settled enough to say it?

    A change is pending from the window on in which the smoothed embedding falls below `speak_below` of what was last
    said, until it rises above `forget_above` again or is said. Once the local windows are calm, or `longest_wait` is
    over, it is ready: it is given `settle` and then said. Where somebody watches the picture, its coming to rest and
    its beginning to move are changes of their own, ready at once, whatever the embedding, with a `settle_resting` or
    `settle_moving` to wait; and what was ready before such a turn is said there, by the window in its middle. Nothing
    is said within `least_hold` of the text before, which has the last word; between turns that grows by `hold_growth`
    with every text. Before anything was said, the first window makes a change pending.

    Windows are offered unencoded, and encoded where the decision hangs on what they mean: those that are said, and
    those that are compared with what was said, every `look_every` seconds.
    """

    def __init__(self, settings: bundle.MeaningGateSettings) -> None:
        highest = max(settings.speak_below, settings.speak_below_at_rest)
        if settings.smoothing < 1 or settings.calm_windows < 1 or settings.forget_above < highest:
            raise VljEdgeError(
                "the meaning gate needs smoothing and calm_windows of at least 1 and a forget_above that neither "
                "speak_below nor speak_below_at_rest exceeds: calibrate it again"
            )
        self._settings = settings
        self._recent: deque[Callable[[], Encoded]] = deque(maxlen=max(settings.smoothing, settings.calm_windows))
        self._times: deque[float] = deque(maxlen=settings.smoothing)
        self._said: Embedding | None = None
        self._said_at = -np.inf
        self._looked_at = -np.inf
        self._pending_since: float | None = None
        self._ready: list[Offered] = []  # since the pending change is ready
        self._resting: bool | None = None
        self._turned = False  # the picture has come to rest or begun to move, and nothing was said since
        self._added = 0  # texts since the one that followed the last turn
        self._latest: Offered | None = None

    def offer(self, time: float, encode: Callable[[], Encoded], resting: bool | None = None) -> Change | None:
        """Take the next window: what to say now, or None.

        Args:
            time: seconds, increasing.
            encode: makes its embedding. It is called once, now or with a later window, or never.
            resting: is the picture at rest? None: not watched.
        """
        self._times.append(time)
        self._recent.append(cache(encode))
        smoothed = list(self._recent)[-self._settings.smoothing :]
        self._latest = window = Offered(self._times, smoothed, resting)
        if not self._settings.enabled:
            return self._say(time, window)
        over = self._turn(time, resting) if resting != self._resting else None
        self._update_pending(window)
        if self._pending_since is None:
            return over
        held = time - self._said_at >= self._hold()
        waited = time - self._pending_since >= self._settings.longest_wait
        if self._turned or self._ready or (held and (waited or self._calm())):
            self._ready.append(window)
        if self._ready and held and time - self._ready[0].time >= self._settle():
            return self._say(time, window)
        return over

    def _hold(self) -> float:
        """Seconds that must pass after the last text before the pending change may be said."""
        growth = 0.0 if self._turned else self._settings.hold_growth * self._added
        return self._settings.least_hold * (1 + growth)

    def _settle(self) -> float:
        """Seconds between the moment at which the pending change was ready and the window that is said."""
        if not self._turned or self._resting is None:
            return self._settings.settle
        return self._settings.settle_resting if self._resting else self._settings.settle_moving

    def _turn(self, time: float, resting: bool | None) -> Change | None:
        """The picture has come to rest or begun to move. Returns what was ready and would now never be said."""
        over = None
        if self._ready and time - self._said_at >= self._settings.least_hold:
            over = self._say(time, self._ready[(len(self._ready) - 1) // 2])
        self._resting, self._turned, self._pending_since, self._ready = resting, True, time, []
        return over

    def cosine_to_said(self, embedding: Embedding) -> float | None:
        """How near an embedding is to what was last said, -1..1; None before anything was said."""
        return None if self._said is None else _cosine(embedding, self._said)

    def flush(self) -> Change | None:
        """At the end of the stream: the change that is pending still and can never calm, or None."""
        if self._latest is None or self._pending_since is None:
            return None
        time = self._latest.time
        return self._say(time, self._latest) if time - self._said_at >= self._settings.least_hold else None

    def _update_pending(self, window: Offered) -> None:
        if self._said is None or self._turned:  # whatever it means
            self._pending_since = window.time if self._pending_since is None else self._pending_since
        elif self._pending_since is None:
            below = self._settings.speak_below_at_rest if self._resting else self._settings.speak_below
            if below > -1 and self._looks(window.time) and _cosine(window.encoded.embedding, self._said) < below:
                self._pending_since = window.time
        elif _cosine(window.encoded.embedding, self._said) > self._settings.forget_above:
            self._pending_since, self._ready = None, []

    def _looks(self, time: float) -> bool:
        """Is it time to compare a window with what was said?"""
        pause = self._settings.look_every * (1 + self._settings.hold_growth * self._added)
        due = time - self._looked_at >= pause
        if due:
            self._looked_at = time
        return due

    def _calm(self) -> bool:
        if len(self._recent) < self._settings.calm_windows:
            return False
        if self._settings.calm_windows == 1:
            return True
        windows = list(self._recent)[-self._settings.calm_windows :]
        mean = np.mean([window().embedding for window in windows], axis=0)
        return bool(1 - mean @ mean <= self._settings.calm_variance)

    def _say(self, time: float, window: Offered) -> Change:
        said = window.encoded
        similarity = None if self._said is None else _cosine(said.embedding, self._said)
        self._said, self._said_at, self._looked_at = said.embedding, time, time
        self._added = 0 if self._turned else self._added + 1
        self._pending_since, self._ready, self._turned = None, [], False
        return Change(said.embedding, similarity, window.first, window.time, window.resting, said.kept)


def _cosine(a: Embedding, b: Embedding) -> float:
    return min(1.0, max(-1.0, float(a @ b)))  # rounding can leave the range
