"""The caption memory: skips the decoder where an embedding is near enough to one that was decoded before."""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt

from vlj_edge import bundle
from vlj_edge.decisions import Decision

from .checks import Checks
from .clip_window import Embedding

_ROUNDING = 1e-6  # a unit vector times itself is 1 only up to this
_AGREEING = 3  # texts of resting pictures: on nano's validation streams 1 in 4 is wrong, three that agree seldom are


class CaptionMemory:
    """Captions by embedding, at most `settings.capacity`, the least recently used replaced first.

    Captions of a picture at rest and of one that moves are kept apart. A picture at rest gets the caption that most of
    the near embeddings have, if at least three have it and no other caption is as frequent. Recall is one matrix-vector
    product.
    """

    def __init__(self, settings: bundle.CaptionMemorySettings, size: int) -> None:
        self._capacity = settings.capacity if settings.enabled else 0
        self._same, self._same_at_rest = (min(same, 1 - _ROUNDING) for same in (settings.same, settings.same_at_rest))
        self._embeddings = np.zeros((self._capacity, size), np.float32)
        self._at_rest = np.zeros(self._capacity, np.bool_)
        self._used = np.zeros(self._capacity, np.int64)  # call number of the last use
        self._texts: list[str] = []
        self._calls = 0
        self._apart = 1.0
        self._check, self._verdict = Checks(), "decoded"

    def __len__(self) -> int:
        return len(self._texts)

    @property
    def decision(self) -> Decision:
        """What was decided at the latest recall."""
        cause = None if self._check.made else "empty" if self._capacity else "off"
        return Decision("memory", self._verdict, tuple(self._check.made), cause)

    def recall(self, embedding: Embedding, resting: bool | None = None, apart: float = 1.0) -> str | None:
        """Return the caption of the nearest embedding if that is near enough, else None.

        Args:
            apart: 1 - cosine of unrelated moments, 0..1; the distances that settings allow are multiplied by it.
        """
        self._check.reset()
        self._apart = apart
        text = self._recalled(embedding, resting) if self._texts else None
        self._verdict = "decoded" if text is None else "recalled"
        return text

    def turn_off(self) -> None:
        """Forget everything, and remember nothing more."""
        self._capacity = 0
        self._texts.clear()

    def _similarities(self, embedding: Embedding, resting: bool | None) -> npt.NDArray[np.float32]:
        """Return the cosine of each embedding that may be recalled; -inf of others."""
        similarities: npt.NDArray[np.float32] = self._embeddings[: len(self)] @ embedding
        similarities[self._at_rest[: len(self)] != bool(resting)] = -np.inf
        return similarities

    def _recalled(self, embedding: Embedding, resting: bool | None) -> str | None:
        similarities = self._similarities(embedding, resting)
        nearest = int(similarities.argmax())
        name, same = ("same_at_rest", self._same_at_rest) if resting else ("same", self._same)
        if similarities[nearest] == -np.inf or not self._is_near(name, float(similarities[nearest]), same):
            return None
        if resting:
            return self._agreed(np.flatnonzero(similarities >= raised(same, self._apart)).tolist())
        self._touch(nearest)
        return self._texts[nearest]

    def _is_near(self, name: str, similarity: float, same: float) -> bool:
        return self._check(name, similarity, ">=", raised(same, self._apart), same)

    def _agreed(self, near: list[int]) -> str | None:
        """Return the caption that most of these slots have, if at least _AGREEING have it and no other as many."""
        found = Counter(self._texts[slot] for slot in near).most_common(2)
        if not self._check("agreeing", found[0][1], ">=", _AGREEING):
            return None
        if len(found) > 1 and not self._check("rival", found[1][1], "<", found[0][1]):
            return None
        text = found[0][0]
        for slot in near:
            if self._texts[slot] == text:
                self._touch(slot)
        return text

    def put(self, embedding: Embedding, text: str, resting: bool | None = None) -> None:
        """Remember a caption, in place of the least recently used one when the memory is full."""
        if len(self) < self._capacity:
            self._texts.append("")
            slot = len(self) - 1
        elif self._capacity:
            slot = int(self._used.argmin())
        else:
            return
        self._embeddings[slot] = embedding
        self._at_rest[slot] = bool(resting)
        self._texts[slot] = text
        self._touch(slot)

    def _touch(self, slot: int) -> None:
        self._calls += 1
        self._used[slot] = self._calls


def raised(same: float, apart: float) -> float:
    """Return a cosine of the settings where unrelated moments have one of 1 - apart, and not of 0."""
    return same if apart >= 1 else min(1 - apart * (1 - same), 1 - _ROUNDING)
