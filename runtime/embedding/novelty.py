"""What a device notices that makes embeddings and no words: another label is nearest, or something is new."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from vlj_edge.results import WindowEmbedding

from .labels import LabelBank

HOLD = 2  # windows in a row that another label must be nearest, as for classify.watch()


class Novelty:
    """Remembers what was new, and finds new what is unlike all of that.

    Args:
        below: cosine (-1..1) to the nearest of them below which an embedding is new.
        capacity: embeddings remembered; the oldest is forgotten first, and may then be new again.
        size: numbers of an embedding.
    """

    def __init__(self, below: float, size: int, capacity: int = 256) -> None:
        self._below, self._known, self._count = below, np.zeros((capacity, size), np.float32), 0

    def offer(self, embedding: npt.NDArray[np.float32]) -> float | None:
        """The cosine to the nearest known embedding (-1 for the first) if this one is new; then it is known. None if it
        is not new."""
        known = self._known[: self._count]
        nearest = float((known @ embedding).max()) if self._count else -1.0
        if nearest >= self._below:
            return None
        self._known[self._count % len(self._known)] = embedding
        self._count += 1
        return nearest


@dataclass(frozen=True)
class Noticed:
    """One window.

    Attributes:
        label: number in the bank of the nearest label; -1: none of them, or there is no bank.
        name: that label.
        cosine: to the nearest label, whether or not it is near enough; None without a bank.
        event: what happened: "label", another one is nearest now; "novel", it is unlike what was seen of late.
        nearest: of something new, the cosine to what is least unlike it.
    """

    item: WindowEmbedding
    label: int = -1
    name: str | None = None
    cosine: float | None = None
    event: Literal["label", "novel"] | None = None
    nearest: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON types, without the embedding and without what is not known."""
        window = self.item.window
        found: dict[str, Any] = {
            "time": window.centre,
            "start": window.start,
            "end": window.end,
            "encoded": self.item.encoded,
        }
        if self.cosine is not None:
            found |= {"label": self.name, "cosine": round(self.cosine, 4)}
        if self.event is not None:
            found |= {"event": self.event}
        if self.nearest is not None:
            found |= {"nearest": round(self.nearest, 4)}
        return found


def notice(
    items: Iterable[WindowEmbedding], bank: LabelBank | None, none_below: float, novelty: Novelty | None
) -> Iterator[Noticed]:
    """Every window, and what is to be noticed about it.

    Args:
        none_below: cosine below which not even the nearest label is meant.
    """
    told: int | None = None
    run, leading = 0, -1
    for item in items:
        label, cosine, event, name = -1, None, None, None
        if bank is not None:
            cosines = bank.embeddings @ item.embedding
            nearest = int(cosines.argmax())
            cosine = float(cosines[nearest])
            label = nearest if cosine >= none_below else -1
            name = bank.labels[label] if label >= 0 else None
            run = run + 1 if label == leading else 1
            leading = label
            if label != told and run >= HOLD:
                told, event = label, "label"
        new = novelty.offer(item.embedding) if novelty is not None else None
        if new is not None and event is None:
            yield Noticed(item, label, name, cosine, "novel", new)
        else:
            yield Noticed(item, label, name, cosine, "label" if event else None, new)
