"""What does a source show, among labels that a person names?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from vlj_edge import bundle
from vlj_edge.errors import VljEdgeError
from vlj_edge.results import Classification, Guess, WindowEmbedding

from .labels import LabelBank


def classify(
    items: Iterable[WindowEmbedding], bank: LabelBank, settings: bundle.LabelSettings, top: int = 5
) -> Classification:
    """What all windows together show: the labels that are nearest to their mean.

    Args:
        items: what Model.embed(source, query=settings.query or None) gives.
        settings: the bundle's, Manifest.labels.

    Raises:
        VljEdgeError: there is no window.
    """
    total, start, end = np.zeros(bank.embeddings.shape[1], np.float64), None, 0.0
    count = 0
    for item in items:
        total += item.embedding
        count += 1
        start = item.window.start if start is None else start
        end = item.window.end
    if start is None:
        raise VljEdgeError("the source has no window to look at: give a longer video")
    return _ranked(bank.embeddings @ (total / count).astype(np.float32), bank, settings, top, start, end)


def watch(
    items: Iterable[WindowEmbedding], bank: LabelBank, settings: bundle.LabelSettings, top: int = 5, hold: int = 2
) -> Iterator[Classification]:
    """The answer whenever it changes: once another label, or none, has been nearest for `hold` windows in a row.

    Each answer's start is that of the first of those windows, its end that of the last; it stands until the next.
    """
    said: str | None = ""  # no label is empty
    leading: str | None = ""
    run: list[WindowEmbedding] = []
    for item in items:
        label = _ranked(bank.embeddings @ item.embedding, bank, settings, 1, 0, 0).label
        run = [*run, item] if run and label == leading else [item]
        leading = label
        if label != said and len(run) >= hold:
            mean = np.mean([each.embedding for each in run], axis=0)
            said = label
            yield _ranked(bank.embeddings @ mean, bank, settings, top, run[0].window.start, item.window.end)


def probabilities(cosines: npt.NDArray[np.float32], temperature: float) -> npt.NDArray[np.float32]:
    """Softmax of cosines over a temperature, along the last axis."""
    logits = cosines / temperature
    raised = np.exp(logits - logits.max(-1, keepdims=True))
    shares: npt.NDArray[np.float32] = raised / raised.sum(-1, keepdims=True)
    return shares


def ranking(
    cosines: npt.NDArray[np.float32], bank: LabelBank, temperature: float, top: int | None = None
) -> tuple[Guess, ...]:
    """Labels with their scores, the nearest first; the first `top` of them."""
    scores = probabilities(cosines, temperature)
    order = np.argsort(-cosines, kind="stable")[:top]
    return tuple(Guess(bank.labels[i], float(scores[i]), float(cosines[i])) for i in order)


def _ranked(
    cosines: npt.NDArray[np.float32],
    bank: LabelBank,
    settings: bundle.LabelSettings,
    top: int,
    start: float,
    end: float,
) -> Classification:
    guesses = ranking(cosines, bank, settings.temperature, top)
    label = guesses[0].label if guesses[0].cosine >= settings.none_below else None
    return Classification(start, end, label, guesses)
