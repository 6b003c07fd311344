"""How much the embedding of a stream wavers while nothing happens in it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from statistics import median

from vlj_edge.bundle import MeaningGateSettings

from .clip_window import Embedding
from .embedding_spread import EmbeddingSpread

_REMEMBERED = 25  # pairs of looks
_ENOUGH = 5  # of them, before thresholds follow
_BRIEF = 2.0  # s: a movement that is shorter is taken for noise
_MARGIN = 3.0  # times the noise that a change has to exceed
_LOWEST = 0.3  # cosine: a change that goes below is always one


class EmbeddingNoise:
    """Learns the cosine of one look at a resting picture to the next: the median of the latest pairs.

    The embeddings of a camera that has noise or shakes waver. A threshold above their own cosine would find a change in
    every window, so thresholds are lowered below it.

    Attributes:
        level: that median; 1 until enough is known.
        spread: what thresholds of uncalibrated gates follow.
    """

    def __init__(self) -> None:
        self._cosines: deque[float] = deque(maxlen=_REMEMBERED)
        self._before: Embedding | None = None
        self._time = self._moved_since = -1.0
        self.level = 1.0
        self.spread = EmbeddingSpread()

    @property
    def cosines(self) -> tuple[float, ...]:
        """The latest pairs of looks, the oldest first."""
        return tuple(self._cosines)

    def restore(self, cosines: Iterable[float]) -> None:
        """Go on from what was learned before."""
        self._cosines.extend(cosines)
        self._update_level()

    def begin(self) -> None:
        """Record that another run begins."""
        self.cut()
        self.spread.begin()

    def learn(self, time: float, embedding: Embedding) -> None:
        """Take the embedding of a look at a picture that rests, float32 [embedding], unit length.

        Args:
            time: of the window, seconds. The same window twice counts once.
        """
        if self._before is not None and time > self._time:
            self._cosines.append(cosine(embedding, self._before))
            self._update_level()
        self._before, self._time = embedding, time

    def turn(self, time: float, resting: bool | None) -> None:
        """Record that the picture came to rest or began to move: after all but a brief movement it may be another."""
        if not resting:
            self._moved_since = time
        elif time - self._moved_since > _BRIEF:
            self.cut()

    def cut(self) -> None:
        """Record that the picture is another from now on."""
        self._before = None

    def _update_level(self) -> None:
        if len(self._cosines) >= _ENOUGH:
            self.level = median(self._cosines)

    def lowered(self, threshold: float) -> float:
        """Return a threshold that noise does not cross: the one given, or a lower one."""
        return min(threshold, max(_LOWEST, 1 - _MARGIN * (1 - self.level)))

    def limit(self, threshold: float, settings: MeaningGateSettings) -> float:
        """Return a threshold of the meaning gate as it is in this stream, by its spread and its noise."""
        return self.lowered(self.spread.raised(threshold, settings) if settings.relative else threshold)


def cosine(a: Embedding, b: Embedding) -> float:
    """Return the cosine of two unit vectors, -1..1; rounding could otherwise leave that range."""
    return min(1.0, max(-1.0, float(a @ b)))
