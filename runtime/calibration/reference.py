"""What should have been said at each window: the captions of annotated events, or the model's own text of the window.

Texts are compared by their embeddings, since two texts may say the same in other words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from vlj_edge.errors import VljEdgeError

from ..gating.clip_window import Embedding
from .events import AnnotatedEvent

EmbedText = Callable[[str], Embedding]
_MOST_COMPARED = 200  # texts, by which is found out how near unrelated ones are


class Reference(Protocol):
    """What should stand as the latest text at each window."""

    def judged(self, window: int) -> bool:
        """Return whether it is known what should stand there."""

    def agrees(self, window: int, text: str) -> bool:
        """Return whether a text, which may be empty, is right there."""


class _Embeddings:
    """Embeddings of texts, each computed once."""

    def __init__(self, embed_text: EmbedText) -> None:
        self._embed_text = embed_text
        self._known: dict[str, Embedding] = {}

    def of(self, text: str) -> Embedding:
        if text not in self._known:
            self._known[text] = self._embedding(text)
        return self._known[text]

    def _embedding(self, text: str) -> Embedding:
        """Return the embedding of a text; of one that is too long for the text encoder, that of its beginning."""
        try:
            return self._embed_text(text)
        except VljEdgeError:
            words = text.split()
            if len(words) < 2:
                raise
            return self._embedding(" ".join(words[: len(words) // 2]))


class AnnotatedReference:
    """Events of a recording. A text is right if, of all annotated captions, one of the event's own is nearest to it.

    Args:
        centres: the windows' times, seconds; no event is judged where none is annotated.
        embed_text: of the model.
    """

    def __init__(
        self, events: Sequence[AnnotatedEvent], centres: npt.NDArray[np.float64], embed_text: EmbedText
    ) -> None:
        self._captions = [captions_at(events, time) for time in centres.tolist()]
        self._all = sorted({caption for event in events for caption in event.captions})
        self._embeddings = _Embeddings(embed_text)
        self._nearest: dict[str, str] = {caption: caption for caption in self._all} | {"": ""}

    def judged(self, window: int) -> bool:
        """See Reference."""
        return bool(self._captions[window])

    def agrees(self, window: int, text: str) -> bool:
        """See Reference."""
        if text not in self._nearest:
            ours = self._embeddings.of(text)
            cosines = [float(self._embeddings.of(caption) @ ours) for caption in self._all]
            self._nearest[text] = self._all[int(np.argmax(cosines))]
        return self._nearest[text] in self._captions[window]


class OwnTextReference:
    """The model's own text of every window.

    A text is right if it is the same, or nearer to it than half the way from the texts of other things in this
    recording (the median pair of its different texts) to the same text.

    Args:
        texts: of each window.
    """

    def __init__(self, texts: Sequence[str], embed_text: EmbedText) -> None:
        self._texts, self._embeddings = list(texts), _Embeddings(embed_text)
        self._same_from = self._find_same_from()
        self._known: dict[tuple[str, str], bool] = {}

    def judged(self, window: int) -> bool:
        """See Reference."""
        return bool(self._texts[window])

    def agrees(self, window: int, text: str) -> bool:
        """See Reference."""
        own = self._texts[window]
        if text == own or not text:
            return text == own
        if (own, text) not in self._known:
            cosine = float(self._embeddings.of(own) @ self._embeddings.of(text))
            self._known[own, text] = cosine >= self._same_from
        return self._known[own, text]

    def _find_same_from(self) -> float:
        different = sorted({*self._texts} - {""})
        chosen = different[:: max(1, len(different) // _MOST_COMPARED)]
        if len(chosen) < 2:
            return 1.0
        rows = np.stack([self._embeddings.of(text) for text in chosen])
        pairs = (rows @ rows.T)[np.triu_indices(len(chosen), 1)]
        return float(1 + np.median(pairs)) / 2


def captions_at(events: Sequence[AnnotatedEvent], time: float) -> frozenset[str]:
    """Return the captions of all that is annotated at a time."""
    return frozenset(caption for event in events if event.start <= time < event.end for caption in event.captions)
