"""Earlier answers of a model elsewhere, by meaning: each that is used again saves a call."""

from __future__ import annotations

import re
from functools import lru_cache

import numpy as np

from vlj_edge.bundle import CaptionMemorySettings

from .caption_memory import CaptionMemory, raised
from .clip_window import Embedding
from .known import KnownData, Resemblance

# Chosen on nano's validation streams (benchmarks/words.py). Distances are in units of 1 - same, within which the bundle
# uses one of its own texts again. Of the answers to what moves, one in ten tells of what was before or comes next: used
# alone, it is wrong again and again.
_FARTHEST = 3.75  # within it, answers that agree are used again
_AGREEING = 2  # so many
_ALONE, _STANDING_ALONE = 1.0, 0.5  # within that one is enough; that which stands is likely to have changed just now
_RIVAL = 1.0  # no other answer is so little farther than the nearest
_AT_REST = 0.9  # cosine from which one answer is enough at rest, where there is less to mistake


class AnswerMemory(CaptionMemory):
    """A caption memory of answers. Of a stream that the model knows nothing like, it recalls none.

    Args:
        settings: those of the bundle's own texts.
        known: what judges the run; or what the model knows, where nothing does.

    Attributes:
        like: the nearest answer to what was looked up last, if it is near, whether it was used again or not; empty
            without one.
    """

    def __init__(self, settings: CaptionMemorySettings, known: KnownData | Resemblance) -> None:
        super().__init__(settings, known.manifest.embedding)
        self._known, self._standing, self.like = known, "", ""

    def recall_unless(
        self, embedding: Embedding, resting: bool | None, standing: str, apart: float = 1.0
    ) -> str | None:
        """As recall(), which is less likely to return the answer that stands."""
        if self._known.said:
            self.turn_off()
        self._standing, self.like = standing, ""
        return self.recall(embedding, resting, apart)

    def _recalled(self, embedding: Embedding, resting: bool | None) -> str | None:
        similarities = self._similarities(embedding, resting)
        nearest = int(similarities.argmax())
        text, similarity, unit = self._texts[nearest], float(similarities[nearest]), 1 - self._same
        farthest = 1 - _FARTHEST * unit
        self.like = text if similarity >= raised(farthest, self._apart) else ""
        if resting:
            if self._is_near("same_at_rest", similarity, max(_AT_REST, self._same_at_rest)):
                self._touch(nearest)
                return text
            return super()._recalled(embedding, resting)
        if not self._is_near("same", similarity, farthest):
            return None
        same_text = np.array([_same_words(each, text) for each in self._texts])
        other = float(similarities[~same_text].max(initial=-1.0))
        if not self._check("another", other, "<", similarity - self._apart * _RIVAL * unit):
            return None
        agreeing = np.flatnonzero(same_text & (similarities >= raised(farthest, self._apart))).tolist()
        alone = 1 - (_STANDING_ALONE if _same_words(text, self._standing) else _ALONE) * unit
        enough = 1 if similarity >= raised(alone, self._apart) else _AGREEING
        if not self._check("agreeing", len(agreeing), ">=", enough):
            return None
        for slot in agreeing:
            self._touch(slot)
        return text


def _same_words(one: str, other: str) -> bool:
    """Return whether two answers say the same, but for capitals, punctuation and articles."""
    return one == other or _words_of(one) == _words_of(other)


@lru_cache(maxsize=1024)
def _words_of(text: str) -> tuple[str, ...]:
    return tuple(word for word in re.findall(r"\w+", text.casefold()) if word not in ("a", "an", "the"))
