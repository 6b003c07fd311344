"""The mean embedding of the windows that were seen so far, and when the text that is nearest to them has changed."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vlj_edge.results import Window, WindowEmbedding

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Span:
    """Neighbouring windows.

    Attributes:
        mean: of their embeddings, float32 [..., embedding], scaled to unit length.
        start, end: of the first and of the last, seconds.
    """

    mean: Vectors
    start: float
    end: float


def mean_direction(total: npt.NDArray[np.floating]) -> Vectors:
    """Return the mean of embeddings, given their sum, scaled to unit length along the last axis: only then is its
    product with another embedding a cosine. Embeddings that cancel out give 0."""
    return np.asarray(total / np.maximum(np.linalg.norm(total, axis=-1, keepdims=True), 1e-6), np.float32)


class RunningMean:
    """The mean of the embeddings that were added.

    Attributes:
        count: how many there are.
    """

    def __init__(self) -> None:
        self.count, self._start, self._end = 0, 0.0, 0.0
        self._total: npt.NDArray[np.float64] | None = None

    def add(self, window: Window, embedding: Vectors) -> None:
        """Add the embedding of the next window, float32 [..., embedding]."""
        self._start = window.start if self._total is None else self._start
        wide = embedding.astype(np.float64)
        self._total = wide if self._total is None else self._total + wide
        self.count, self._end = self.count + 1, window.end

    def of(self, items: Iterable[WindowEmbedding]) -> Iterator[WindowEmbedding]:
        """Yield the items; each is added before it is yielded."""
        for item in items:
            self.add(item.window, item.embedding)
            yield item

    @property
    def seconds(self) -> float:
        """From the start of the first window to the end of the last."""
        return self._end - self._start

    def span(self) -> Span | None:
        """Return what was added, or None if nothing was."""
        return None if self._total is None else Span(mean_direction(self._total), self._start, self._end)


class ChangeDetector:
    """Finds the windows in which another text has become the nearest.

    Args:
        nearest: returns what is nearest to an embedding, None for nothing.
        hold: windows in a row in which it must be nearest.
        every: seconds after which it counts as changed even if it has not.
    """

    def __init__(self, nearest: Callable[[Vectors], Hashable], hold: int, every: float = float("inf")) -> None:
        self._nearest, self._hold, self._every = nearest, hold, every
        self._current: Hashable = RunningMean  # equal to no text
        self._leading: Hashable = RunningMean
        self._run, self._since = RunningMean(), RunningMean()  # windows with one nearest text; since the last change

    def add(self, window: Window, embedding: Vectors) -> Span | None:
        """Add the next window. Return the windows that show what is nearest now if that has changed, else None."""
        leading = self._nearest(embedding)
        if leading != self._leading:
            self._leading, self._run = leading, RunningMean()
        self._run.add(window, embedding)
        self._since.add(window, embedding)
        holds = self._run.count >= self._hold
        if holds and leading != self._current:
            found, self._current = self._run.span(), leading
        elif self._since.seconds >= self._every:
            found = (self._run if holds else self._since).span()
            self._current = leading if holds or found is None else self._nearest(found.mean)
        else:
            return None
        self._since = RunningMean()
        return found
