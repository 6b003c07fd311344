"""Classify a source among labels: once for the whole source, or whenever the answer changes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from vlj_edge import bundle
from vlj_edge.errors import SourceBrokeOff, VljEdgeError
from vlj_edge.results import Classification, Guess, WindowEmbedding

from .labels import LabelBank


def classify(
    items: Iterable[WindowEmbedding], bank: LabelBank, settings: bundle.LabelSettings, top: int = 5
) -> Classification:
    """Rank the labels by their similarity to the mean embedding of all windows, scaled to unit length.

    Args:
        items: from Model.embed(source, query=settings.query or None).
        settings: Manifest.labels of the bundle.
        top: how many labels to return.

    Raises:
        VljEdgeError: there is no window.
        SourceBrokeOff: the source ended too early; `found` has the Classification of the part that was read.
    """
    total, start, end = np.zeros(bank.embeddings.shape[1], np.float64), None, 0.0
    broken: SourceBrokeOff | None = None
    try:
        for item in items:
            total += item.embedding
            start = item.window.start if start is None else start
            end = item.window.end
    except SourceBrokeOff as error:
        broken = error
    if start is None:
        raise broken or VljEdgeError("the source has no window to look at: give a longer video")
    answer = _ranked(mean_direction(total), bank, settings, top, start, end)
    if broken is not None:
        broken.found = [answer]
        raise broken
    return answer


def watch(
    items: Iterable[WindowEmbedding], bank: LabelBank, settings: bundle.LabelSettings, top: int = 5, hold: int = 2
) -> Iterator[Classification]:
    """Yield a classification whenever the answer changes, that is, once another label, or none, has been nearest for
    `hold` windows in a row.

    A classification starts with the first of those windows, ends with the last, and is valid until the next one.
    """
    current: str | None = ""  # no label is empty
    leading: str | None = ""
    run: list[WindowEmbedding] = []
    for item in items:
        label = _ranked(item.embedding, bank, settings, 1, 0, 0).label
        run = [*run, item] if run and label == leading else [item]
        leading = label
        if label != current and len(run) >= hold:
            mean = mean_direction(np.sum([each.embedding for each in run], axis=0))
            current = label
            yield _ranked(mean, bank, settings, top, run[0].window.start, item.window.end)


def mean_direction(total: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """Return the mean of embeddings, given their sum, scaled to unit length along the last axis, as float32: only then
    is its product with another embedding a cosine. Embeddings that cancel out give 0."""
    return np.asarray(total / np.maximum(np.linalg.norm(total, axis=-1, keepdims=True), 1e-6), np.float32)


def probabilities(cosines: npt.NDArray[np.float32], temperature: float) -> npt.NDArray[np.float32]:
    """Return the softmax of cosines / temperature along the last axis."""
    logits = cosines / temperature
    raised = np.exp(logits - logits.max(-1, keepdims=True))
    shares: npt.NDArray[np.float32] = raised / raised.sum(-1, keepdims=True)
    return shares


def ranking(
    embedding: npt.NDArray[np.float32], bank: LabelBank, temperature: float, none_below: float = -1.0
) -> tuple[tuple[Guess, ...], float]:
    """Return all labels with their scores, nearest first, and the score of none of them.

    None of them counts like one more label, whose cosine is `none_below`; at -1 its score is 0.

    Args:
        embedding: float32 [embedding], unit length.
    """
    cosines = bank.embeddings @ embedding
    of_none = none_below if none_below > -1 else -np.inf
    *scores, none_score = probabilities(np.append(cosines, np.float32(of_none)), temperature)
    order = np.argsort(-cosines, kind="stable")
    return tuple(Guess(bank.labels[i], float(scores[i]), float(cosines[i])) for i in order), float(none_score)


def _ranked(
    embedding: npt.NDArray[np.float32],
    bank: LabelBank,
    settings: bundle.LabelSettings,
    top: int,
    start: float,
    end: float,
) -> Classification:
    guesses, none_score = ranking(embedding, bank, settings.temperature, settings.none_below)
    label = guesses[0].label if guesses[0].similarity >= settings.none_below else None
    return Classification(start, end, label, guesses[:top], none_score)
