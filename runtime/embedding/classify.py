"""Classify a source among labels: once for the whole source, or whenever the answer changes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from vlj_edge import bundle
from vlj_edge.errors import SourceBrokeOff, VljEdgeError
from vlj_edge.results import Classification, Guess, WindowEmbedding

from ..model import Model
from ..video.arrays import AnySource, to_source
from .labels import LabelBank
from .own_labels import OwnLabels, offered_labels
from .running_mean import ChangeDetector, RunningMean, Span, Vectors


def classify_source(
    model: Model, source: AnySource, labels: Sequence[str] | None = None, top: int = 5
) -> Classification:
    """Rank labels by how well they describe a whole source, encoded with the bundle's query for labels.

    Args:
        labels: None: those that the model has of its own (a V-JEPA 2 classifier); of these, a label may be in any case.
        top: how many labels to return.

    Raises:
        VljEdgeError: the source or bundle cannot be used, or the model cannot tell these labels apart.
        SourceBrokeOff: the source ended too early; `found` has the Classification of the part that was read.

    Example:
        >>> import vlj_edge
        >>> with vlj_edge.load() as model:
        ...     found = vlj_edge.classify_source(model, "video.mp4", ["opens the drawer", "closes the door"])
        >>> len(found.guesses)
        2
    """
    settings = model.manifest.labels
    with to_source(source, model.manifest.clip.frames_per_second) as opened:  # first: a wrong path is the first fault
        bank = offered_labels(model, labels)
        with model.embed(opened, query=settings.query or None) as windows:
            return classify(windows, bank, settings, top)


def classify(
    items: Iterable[WindowEmbedding], bank: LabelBank | OwnLabels, settings: bundle.LabelSettings, top: int = 5
) -> Classification:
    """Rank the labels by their similarity to the mean embedding of all windows, scaled to unit length.

    Args:
        items: from Model.embed(source, query=settings.query or None).
        bank: from make_bank(), or offered_labels().
        settings: Manifest.labels of the bundle.
        top: how many labels to return.

    Raises:
        VljEdgeError: there is no window.
        SourceBrokeOff: the source ended too early; `found` has the Classification of the part that was read.
    """
    whole = RunningMean()
    broken: SourceBrokeOff | None = None
    try:
        for item in items:
            whole.add(item.window, item.embedding)
    except SourceBrokeOff as error:
        broken = error
    span = whole.span()
    if span is None:
        raise broken or VljEdgeError("the source has no window to look at: give a longer video")
    answer = classified(span, bank, settings, top)
    if broken is not None:
        broken.found = [answer]
        raise broken
    return answer


def watch(
    items: Iterable[WindowEmbedding],
    bank: LabelBank | OwnLabels,
    settings: bundle.LabelSettings,
    top: int = 5,
    hold: int = 2,
    every: float = float("inf"),
) -> Iterator[Classification]:
    """Yield a classification whenever the answer changes, that is, once another label, or none, has been nearest for
    `hold` windows in a row.

    A classification starts with the first of those windows, ends with the last, and is valid until the next one.

    Args:
        every: seconds after which there is a classification even if the answer has not changed.
    """
    changes = ChangeDetector(lambda embedding: _label(embedding, bank, settings), hold, every)
    for item in items:
        span = changes.add(item.window, item.embedding)
        if span is not None:
            yield classified(span, bank, settings, top)


def classified(span: Span, bank: LabelBank | OwnLabels, settings: bundle.LabelSettings, top: int = 5) -> Classification:
    """Return the classification of windows by their mean embedding. Arguments as for classify()."""
    guesses, none_score = ranking(span.mean, bank, settings)
    return Classification(span.start, span.end, _label(span.mean, bank, settings), guesses[:top], none_score)


def probabilities(cosines: npt.NDArray[np.float32], temperature: float) -> npt.NDArray[np.float32]:
    """Return the softmax of cosines / temperature along the last axis."""
    logits = cosines / temperature
    raised = np.exp(logits - logits.max(-1, keepdims=True))
    shares: npt.NDArray[np.float32] = raised / raised.sum(-1, keepdims=True)
    return shares


def sigmoid(x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return 1 / (1 + exp(-x)), without overflow."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * x)), np.float32)


def label_scores(
    cosines: npt.NDArray[np.float32], settings: bundle.LabelSettings
) -> tuple[npt.NDArray[np.float32], float]:
    """Return the score of each label, 0..1, as the model was trained to give it, and that of none of them.

    A softmax over the labels, where none of them counts like one more label, whose cosine is `settings.none_below`,
    with a score of 0 at -1; or, with `settings.bias`, sigmoids that do not depend on each other: then none of them is
    what the best label leaves to 1, where `none_below` is the cosine whose score is 0.5.

    Args:
        cosines: float32 [labels].
    """
    has_none = settings.none_below > -1
    of_none = np.float32(settings.none_below if has_none else -np.inf)
    if settings.bias is None:
        scores = probabilities(np.append(cosines, of_none), settings.temperature)
        return scores[:-1], float(scores[-1])
    margin = (of_none - cosines.max()) / settings.temperature
    return sigmoid(cosines / settings.temperature + settings.bias), float(sigmoid(margin)) if has_none else 0.0


def ranking(
    embedding: Vectors, bank: LabelBank | OwnLabels, settings: bundle.LabelSettings
) -> tuple[tuple[Guess, ...], float]:
    """Return all labels with their scores, nearest first, and the score of none of them: see label_scores() and
    OwnLabels.scores().

    Args:
        embedding: float32 [embedding], unit length.
    """
    near = bank.similarities(embedding)
    scores, none_score = bank.scores(near) if isinstance(bank, OwnLabels) else label_scores(near, settings)
    order = np.argsort(-near, kind="stable")
    return tuple(Guess(bank.labels[i], float(scores[i]), float(near[i])) for i in order), none_score


def _label(embedding: Vectors, bank: LabelBank | OwnLabels, settings: bundle.LabelSettings) -> str | None:
    near = bank.similarities(embedding)
    best = int(near.argmax())
    none_below = bank.none_below if isinstance(bank, OwnLabels) else settings.none_below
    return bank.labels[best] if float(near[best]) >= none_below else None
