"""What the cosines of a stream's embeddings show: how much a scene wavers, and how far apart its scenes are."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vlj_edge.bundle import MeaningGateSettings

from .clip_window import Embedding

_NEIGHBOURS = 16  # pairs of neighbouring looks that are remembered
_ENOUGH_NEIGHBOURS = 5  # of them, before thresholds follow
_QUIET = 0.25  # of these pairs show the same scene, at least; the others may show a change
_TIMES_NOISE = 2.0  # that a change must exceed
_TIMES_STEADY_NOISE = 1.5  # the same, where settings name less; but
_FARTHEST = 0.7  # 1 - cosine: a change that goes farther is always one, and
_STEADY = 1.25  # times the noise: moments that are farther apart differ by more than noise, and half of it is a change
_LEAST = 0.004  # 1 - cosine: no change is smaller, what rounding to int8 makes is
_CALM = 0.6  # times the noise: windows that differ by less are calm

_MOMENTS = 24  # that are compared with each other
_BETWEEN = 1.0  # s, from one of them to the next
_ENOUGH_PAIRS = 12
_SHARE = 1 / 0.3  # times 1 - speak_below, of the distance between scenes: half of it with speak_below at its default
_LARGEST_SHARE = 0.8
_GAP = 1.4  # a distance between scenes is larger than one within a scene by the square of this, at least
_FEWEST_WITHIN, _FEWEST_BETWEEN = 0.03, 0.05  # of all pairs
_IN_THE_GAP = 0.15  # of the fewer of both, at most: windows that show a change as it happens
_NEAREST = 0.1  # of the pairs of different scenes are nearer than what counts as the distance between scenes
_MANY_TIMES = 15.0  # the noise: moments that are so far apart are different scenes
_USUAL = 0.9  # of the pairs, where there are no scenes to tell apart, are usual
_PATIENCE = 120.0  # s after a text, until what is usual is a change; at first it takes twice as much


class Moments(NamedTuple):
    """How far apart moments of a stream are.

    Attributes:
        apart: the median of 1 - cosine over pairs of moments, 0..2.
        usual: what most pairs do not exceed.
        between_scenes: 1 - cosine of scenes that are near to each other, 0..2; 0: none can be told apart.
    """

    apart: float
    usual: float
    between_scenes: float


class EmbeddingSpread:
    """Learns from looks at a stream what 1 - cosine a change of its meaning has.

    The embeddings of many models lie in a narrow cone, where unrelated scenes have a cosine of 0.7 to 0.98. With
    thresholds of a space without a cone, all scenes are the same there. So distances that settings name are made
    smaller: to a share of the distance between scenes of the last half minute, if pairs of its moments fall into near
    ones and far ones, and otherwise (one scene, or steady movement) to what most moments do not exceed, the more the
    shorter ago the last text is; and never below the noise of a scene.

    Attributes:
        noise: 1 - cosine of two windows of the same scene that share no frame, 0..2; None: not known yet.
        moments: how far apart moments of the last half minute are; None: not known yet.
    """

    def __init__(self) -> None:
        self.noise: float | None = None
        self.moments: Moments | None = None
        self._neighbours: deque[float] = deque(maxlen=_NEIGHBOURS)
        self._latest: deque[tuple[float, float, Embedding]] = deque(maxlen=_MOMENTS)  # start, end
        self._before: Embedding | None = None
        self._time = self._text_at = -np.inf

    @property
    def neighbours(self) -> tuple[float, ...]:
        """The noise that the latest pairs of looks show, the oldest first."""
        return tuple(self._neighbours)

    @property
    def unrelated(self) -> float | None:
        """The cosine of two moments of the last half minute, as usual; None: not known yet."""
        return None if self.moments is None else 1 - self.moments.apart

    def restore(self, neighbours: Iterable[float], moments: Moments | None) -> None:
        """Go on from what was learned before."""
        self._neighbours.extend(neighbours)
        self.moments = moments
        self._update_noise()

    def begin(self) -> None:
        """Record that another run begins, whose times have nothing to do with those before."""
        self._latest.clear()
        self._before, self._time, self._text_at = None, -np.inf, -np.inf

    def say(self) -> None:
        """Record that the latest look gets a text."""
        self._text_at = self._time

    def learn(self, start: float, end: float, embedding: Embedding) -> None:
        """Take the embedding of a look, float32 [embedding], unit length. The same or an earlier one counts once.

        Args:
            start, end: of what it shows, seconds.
        """
        if end <= self._time:
            return
        if self._before is not None:
            new = min(1.0, (end - self._time) / max(end - start, 1e-6))  # share that both do not have in common
            distance = max(0.0, 1 - float(embedding @ self._before))
            self._neighbours.append(min(2.0, distance / new))
            self._update_noise()
        if not self._latest or end - self._latest[-1][1] >= _BETWEEN:
            self._latest.append((start, end, embedding))
            self._update_moments()
        self._before, self._time = embedding, end

    def scale(self, settings: MeaningGateSettings) -> float:
        """Return by what the distances that settings name are multiplied in this stream, above 0, at most 1."""
        named = _smallest(settings)
        return min(1.0, self._change(named) / named) if named > 0 else 1.0

    def raised(self, threshold: float, settings: MeaningGateSettings) -> float:
        """Return a threshold of the settings for this stream, -1..1."""
        if not -1 < threshold < 1:
            return threshold
        distance = min((1 - threshold) * self.scale(settings), self._change(_smallest(settings)))
        return 1 - max(distance, self._wavering())

    def calm(self, settings: MeaningGateSettings) -> float:
        """Return calm_variance for this stream: the one given, or less."""
        least = settings.calm_variance * self.scale(settings)
        return min(settings.calm_variance, max(least, _CALM * (self.noise or 0.0)))

    def _change(self, named: float) -> float:
        """Return 1 - cosine from which on something has changed, where settings name such a distance."""
        if self.noise is None or self.moments is None:
            return 2.0
        found = self.moments
        if found.between_scenes > 0:
            least = min(named * _SHARE, _LARGEST_SHARE) * found.between_scenes
        elif found.apart > _MANY_TIMES * self.noise:
            least = min(named * _SHARE, _LARGEST_SHARE) * found.apart
        else:
            least = found.usual * (1 + max(0.0, 1 - (self._time - self._text_at) / _PATIENCE))
        return max(least, _TIMES_NOISE * self.noise, _LEAST)

    def _wavering(self) -> float:
        """Return 1 - cosine below which nothing has changed, whatever settings say."""
        if self.noise is None:
            return 0.0
        differs = self.moments is not None and self.moments.apart > _STEADY * self.noise
        most = self.moments.apart / 2 if self.moments is not None and differs else _FARTHEST
        return min(_TIMES_STEADY_NOISE * self.noise, most, _FARTHEST)

    def _update_noise(self) -> None:
        if len(self._neighbours) >= _ENOUGH_NEIGHBOURS:
            self.noise = sorted(self._neighbours)[int(_QUIET * len(self._neighbours))]

    def _update_moments(self) -> None:
        starts, ends, embeddings = (np.array(each) for each in zip(*self._latest, strict=True))
        distances = 1 - embeddings @ embeddings.T
        pairs = np.sort(np.clip(distances[starts[None, :] >= ends[:, None] - 1e-6], 0.0, 2.0))  # they share no frame
        if len(pairs) >= _ENOUGH_PAIRS:
            apart, usual = np.quantile(pairs, (0.5, _USUAL))
            self.moments = Moments(float(apart), float(usual), _between_scenes(pairs))


def _between_scenes(pairs: npt.NDArray[np.float64]) -> float:
    """Return the distance between scenes that are near to each other; 0 if near and far pairs cannot be told apart.

    Args:
        pairs: distances, ascending.
    """
    count, gap = len(pairs), _LEAST / 2
    while gap * _GAP < pairs[-1]:
        within, outside = np.searchsorted(pairs, (gap / _GAP, gap * _GAP))
        between = count - outside
        enough = within >= _FEWEST_WITHIN * count and between >= _FEWEST_BETWEEN * count
        if enough and outside - within <= _IN_THE_GAP * min(within, between):
            return float(pairs[outside + int(_NEAREST * between)])
        gap *= 1.1
    return 0.0


def _smallest(settings: MeaningGateSettings) -> float:
    return 1 - max(settings.speak_below, settings.speak_below_at_rest)
