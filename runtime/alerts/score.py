"""How much a window looks like what an alert watches for: from an embedding to a probability."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from vlj_edge.errors import VljEdgeError

from ..chain import Chain
from ..embedding.labels import make_bank
from ..embedding.own_labels import label_number
from ..model import Model
from ..words.label_head import softmax
from .settings import OPPOSITES, Alert, Example

Vectors = npt.NDArray[np.float32]
_APART = 3.0  # seconds around an example that belong to it
_STEEPNESS = 6.0  # the score of an example itself is 0.95, that of what merely looks like the rest of its video 0.05
_ALIKE = 0.99  # the cosine between other windows and the examples is taken as no higher than this


class Scorer(Protocol):
    """Gives the probability of an alert's condition."""

    def __call__(self, embedding: Vectors) -> float:
        """Return 0..1 for an embedding, float32 [embedding], unit length."""


@dataclass(frozen=True, eq=False)
class References:
    """The probability that a window is like one of `wanted`, against the nearest of `others` and against none of them.

    A softmax over the nearest of `wanted`, each of `others`, and none, which counts like one more text of the cosine
    `none`.

    Attributes:
        wanted: float32 [wanted, embedding], rows of unit length.
        others: float32 [others, embedding], rows of unit length; may have no row.
        none: -1..1; -inf: it is always one of these.
        temperature: cosines are divided by it before the softmax.
    """

    wanted: Vectors
    others: Vectors
    none: float
    temperature: float

    def __call__(self, embedding: Vectors) -> float:
        """See Scorer."""
        rivals = np.append(self.others @ embedding, np.float32(self.none)).astype(np.float64)
        margins = (rivals - float((self.wanted @ embedding).max())) / self.temperature
        return float(1 / (1 + np.exp(np.minimum(margins, 700.0)).sum()))


@dataclass(frozen=True, eq=False)
class LabelProbability:
    """The probability of a label of those that the model was trained to tell apart."""

    chain: Chain
    index: int

    def __call__(self, embedding: Vectors) -> float:
        """See Scorer."""
        return float(softmax(self.chain.label_logits(embedding))[self.index])


def make_scorer(model: Model, alert: Alert, query: str | None = None) -> Scorer:
    """Return what scores windows for an alert: texts are embedded here, and videos of examples are read.

    Args:
        query: the query that the windows are encoded with; None: the bundle's default.

    Raises:
        VljEdgeError: the model knows no such label or embeds no texts, or an example cannot be read; with the alert's
            name.
    """
    try:
        if alert.label is not None:
            return _label(model, alert.label)
        if alert.like:
            return _like(model, alert.like, query)
        return _texts(model, alert.texts, alert.unless)
    except VljEdgeError as error:
        raise VljEdgeError(f"alert '{alert.name}': {error}") from None


def _texts(model: Model, texts: Sequence[str], unless: Sequence[str]) -> References:
    settings = model.manifest.labels
    wanted = make_bank(model, texts, templates=("{}",)).embeddings
    default = tuple(text for text in OPPOSITES if text not in texts)
    others = make_bank(model, unless or default, templates=("{}",)).embeddings
    none = settings.none_below if settings.none_below > -1 else -np.inf
    return References(wanted, others, none, settings.temperature)


def _label(model: Model, label: str) -> LabelProbability:
    if model.manifest.label_head is None:
        raise VljEdgeError(f"{model.directory} has no labels of its own: write text in place of label")
    _, labels = model.chain.label_head
    return LabelProbability(model.chain, label_number(label, labels, model.directory))


def _like(model: Model, examples: Sequence[Example], query: str | None) -> References:
    """Return references from moments of videos; what else is in these videos says how alike other things look."""
    wanted: list[Vectors] = []
    others: list[Vectors] = []
    for video in dict.fromkeys(example.video for example in examples):
        moments = [example.at for example in examples if example.video == video]
        with model.embed(video, query, every_window=True) as run:
            windows = list(run)
        for at in moments:
            if not windows or not windows[0].window.start <= at <= windows[-1].window.end:
                raise VljEdgeError(f"{video} has no moment at {at:g} s: name one that it has")
            wanted.append(min(windows, key=lambda each: abs(each.window.centre - at)).embedding)
        others += [each.embedding for each in windows if all(abs(each.window.centre - at) > _APART for at in moments)]
    if not others:
        raise VljEdgeError("its examples fill their videos: name longer ones, which also show what it is not")
    bank = np.stack(wanted)
    alike = min(float(np.percentile((np.stack(others) @ bank.T).max(axis=1), 95)), _ALIKE)
    return References(bank, bank[:0], (1 + alike) / 2, (1 - alike) / _STEEPNESS)
