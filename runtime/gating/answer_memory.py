"""Earlier answers of a model elsewhere, by meaning: each that is used again saves a call."""

from __future__ import annotations

from vlj_edge.bundle import CaptionMemorySettings

from .caption_memory import CaptionMemory
from .clip_window import Embedding
from .known import KnownData, Resemblance

# Chosen on nano's validation streams (benchmarks/words.py). A call costs far more than a run of the decoder, and its
# answer is seldom wrong: it is used again at more than the distance of `same`. That of the answer which stands less
# far: where the meaning has just changed, it is likely to have changed.
_FARTHER, _FARTHER_STANDING = 1.75, 1.25  # times 1 - same
_AT_REST = 0.8  # cosine, at least: one answer is enough, since answers are hardly ever the same word by word


class AnswerMemory(CaptionMemory):
    """A caption memory of answers. Of a stream that the model knows nothing like, it recalls none.

    Args:
        settings: those of the bundle's own texts.
        known: what judges the run; or what the model knows, where nothing does.
    """

    def __init__(self, settings: CaptionMemorySettings, known: KnownData | Resemblance) -> None:
        super().__init__(settings, known.manifest.embedding)
        self._known, self._standing = known, ""

    def recall_unless(
        self, embedding: Embedding, resting: bool | None, standing: str, apart: float = 1.0
    ) -> str | None:
        """As recall(), which is less likely to return the answer that stands."""
        if self._known.said:
            self.turn_off()
        self._standing = standing
        return self.recall(embedding, resting, apart)

    def _recalled(self, embedding: Embedding, resting: bool | None) -> str | None:
        similarities = self._similarities(embedding, resting)
        nearest = int(similarities.argmax())
        farther = _FARTHER_STANDING if self._texts[nearest] == self._standing else _FARTHER
        name, same = "same", 1 - farther * (1 - self._same)
        if resting:
            name, same = "same_at_rest", max(_AT_REST, self._same_at_rest)
        if self._is_near(name, float(similarities[nearest]), same):
            self._touch(nearest)
            return self._texts[nearest]
        return super()._recalled(embedding, resting) if resting else None
