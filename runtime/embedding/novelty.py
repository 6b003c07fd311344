"""Events of a stream of embeddings, without words: another label is nearest, or something is new."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from vlj_edge.results import WindowEmbedding

from .labels import LabelBank

HOLD = 2  # windows in a row that another label must be nearest, as for classify.watch()


class NoveltyDetector:
    """Remembers new embeddings, and reports each one that is unlike all remembered ones.

    Args:
        below: an embedding is new if its cosine (-1..1) to every remembered one is below this.
        size: width of an embedding.
        capacity: how many embeddings are remembered; the oldest is removed first and may then be new again.

    Example:
        >>> import numpy as np
        >>> from vlj_edge import NoveltyDetector
        >>> detector = NoveltyDetector(below=0.7, size=2)
        >>> detector.update(np.array([1, 0], np.float32))
        -1.0
        >>> detector.update(np.array([1, 0], np.float32)) is None
        True
    """

    def __init__(self, below: float, size: int, capacity: int = 256) -> None:
        self._below, self._known, self._count = below, np.zeros((capacity, size), np.float32), 0

    def update(self, embedding: npt.NDArray[np.float32]) -> float | None:
        """Remember an embedding, float32 [size], if it is new, and return its cosine to the nearest remembered one (-1
        for the first). Return None if it is not new."""
        known = self._known[: self._count]
        nearest = float((known @ embedding).max()) if self._count else -1.0
        if nearest >= self._below:
            return None
        self._known[self._count % len(self._known)] = embedding
        self._count += 1
        return nearest


@dataclass(frozen=True)
class Observation:
    """A window with its nearest label and its event, if any.

    Attributes:
        label_index: index of the nearest label in the bank; -1 if none is near enough or there is no bank.
        label: that label.
        similarity: cosine to the nearest label, whether or not it is near enough; None without a bank.
        event: "label" if the nearest label has changed, "novel" if the window is new, None otherwise.
        nearest: cosine to the nearest remembered embedding; None unless the window is new.

    Example:
        >>> import vlj_edge
        >>> with vlj_edge.load() as model:
        ...     detector = vlj_edge.NoveltyDetector(0.7, model.manifest.embedding)
        ...     first = next(vlj_edge.observe(model.embed("video.mp4"), None, 0.0, detector))
        >>> first.event
        'novel'
    """

    item: WindowEmbedding
    label_index: int = -1
    label: str | None = None
    similarity: float | None = None
    event: Literal["label", "novel"] | None = None
    nearest: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON types, without the embedding and without values that are None."""
        window = self.item.window
        found: dict[str, Any] = {
            "time": window.centre,
            "start": window.start,
            "end": window.end,
            "encoded": self.item.encoded,
        }
        if self.similarity is not None:
            found |= {"label": self.label, "similarity": round(self.similarity, 4)}
        if self.event is not None:
            found |= {"event": self.event}
        if self.nearest is not None:
            found |= {"nearest": round(self.nearest, 4)}
        return found


def observe(
    items: Iterable[WindowEmbedding], bank: LabelBank | None, none_below: float, novelty: NoveltyDetector | None
) -> Iterator[Observation]:
    """Yield an observation of every window.

    Args:
        none_below: cosine below which even the nearest label does not apply.
    """
    reported: int | None = None
    run, leading = 0, -1
    for item in items:
        index, similarity, event, label = -1, None, None, None
        if bank is not None:
            similarities = bank.embeddings @ item.embedding
            nearest = int(similarities.argmax())
            similarity = float(similarities[nearest])
            index = nearest if similarity >= none_below else -1
            label = bank.labels[index] if index >= 0 else None
            run = run + 1 if index == leading else 1
            leading = index
            if index != reported and run >= HOLD:
                reported, event = index, "label"
        new = novelty.update(item.embedding) if novelty is not None else None
        if new is not None and event is None:
            yield Observation(item, index, label, similarity, "novel", new)
        else:
            yield Observation(item, index, label, similarity, "label" if event else None, new)
