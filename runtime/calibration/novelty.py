"""Events of novelty over a recording, for bundles that make no texts: which threshold gives how many, and how apt."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..embedding.novelty import NoveltyDetector
from .figures import Blocks, Figures, by_block
from .record import Recording
from .replay import SceneDecisions

OWN_NOVEL_BELOW = 0.7  # where a bundle's user has none: the value of the examples
_CAPACITY = 256  # of NoveltyDetector
_LOW, _HIGH = 0.002, 1.0  # of 1 - novel_below


class NoveltyCandidates:
    """Thresholds: 1 - novel_below on a logarithmic scale."""

    def draw(self, rng: np.random.Generator) -> float:
        """See search.Candidates."""
        return _tidy(float(np.exp(rng.uniform(np.log(_LOW), np.log(_HIGH)))))

    def vary(self, rng: np.random.Generator, settings: float) -> float:
        """See search.Candidates."""
        return _tidy(max(1 - settings, _LOW) * float(np.exp(0.2 * rng.normal())))


@dataclass(frozen=True)
class NoveltyTrial:
    """Measures thresholds on one recording.

    A novel window is an event, and every window counts as an instance of the event that it is nearest to. Without
    annotations a window agrees by its cosine to that event's; with them, if both show the same annotated event.

    Args:
        embeddings: as Model.embed() gives them, float32 [windows, embedding]; encoded: which were new.
        captions: of each window's annotated event, empty where there is none; None without annotations.
    """

    embeddings: npt.NDArray[np.float32]
    encoded: npt.NDArray[np.bool_]
    captions: list[frozenset[str]] | None
    blocks: Blocks

    def measure(self, novel_below: float) -> tuple[Figures, ...]:
        """Return the figures of each block."""
        detector = NoveltyDetector(novel_below, self.embeddings.shape[1], _CAPACITY)
        novel: list[int] = []
        agreed, judged = np.zeros(len(self.embeddings)), np.ones(len(self.embeddings))
        events = np.zeros(len(self.embeddings))
        for index, embedding in enumerate(self.embeddings):
            if detector.update(embedding) is not None:
                novel = [*novel, index][-_CAPACITY:]
                events[index] = 1
            if not novel:  # a threshold of -1 makes nothing new
                judged[index] = self.captions is None or bool(self.captions[index])
                continue
            cosines = self.embeddings[novel] @ embedding
            nearest = int(cosines.argmax())
            if self.captions is None:
                agreed[index] = max(0.0, float(cosines[nearest]))
            else:
                here = self.captions[index]
                judged[index], agreed[index] = bool(here), bool(here & self.captions[novel[nearest]])
        seconds = self.blocks.seconds
        rows = (seconds, judged * seconds, agreed * seconds, events, self.encoded, np.zeros(len(events)))
        sums = [by_block(row, self.blocks) for row in rows]
        return tuple(Figures(*map(float, each)) for each in zip(*sums, strict=True))


def gated(recording: Recording, scene: SceneDecisions) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Return what Model.embed() gives for a recording: embeddings [windows, embedding], and which were encoded."""
    latest: list[int] = []
    for index in range(len(recording.windows)):
        changed = scene.changed(index, latest[-1] if latest else None, index)
        latest.append(index if changed else latest[-1])
    embeddings = np.stack([recording.windows[index].embedding for index in latest])
    return embeddings, np.array(latest) == np.arange(len(latest))


def _tidy(distance: float) -> float:
    return round(1 - min(max(distance, _LOW), _HIGH), 4)
