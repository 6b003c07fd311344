"""The labels that a model has of its own: a V-JEPA 2 classifier's, compared with its probabilities, or captions."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vlj_edge.bundle import Manifest
from vlj_edge.errors import WrongCall, WrongText

from ..model import Model
from ..words.decode import read_captions
from ..words.label_head import softmax
from .labels import LabelBank, check_labels, make_bank

Vectors = npt.NDArray[np.float32]
_NEAR = 3  # labels that are named in place of one that the model does not have


@dataclass(frozen=True, eq=False)
class OwnLabels:
    """Labels of a model's own.

    Attributes:
        none_below: probability, 0..1, of the likeliest among all labels of the model, below which none of them applies.
        numbers: of the labels among all labels of the model.
        logits: returns the logits of all labels of the model, float32 [all], for an embedding.
    """

    labels: tuple[str, ...]
    none_below: float
    numbers: tuple[int, ...]
    logits: Callable[[Vectors], Vectors]

    def similarities(self, embedding: Vectors) -> Vectors:
        """Return the probability of each label among all of the model, float32 [labels]."""
        return softmax(self.logits(embedding))[list(self.numbers)]

    def scores(self, similarities: Vectors) -> tuple[Vectors, float]:
        """Return the probability of each label among these, float32 [labels], and that of none of them: 0 where one
        applies. They add up to 1."""
        scores, best = similarities / max(float(similarities.sum()), 1e-30), float(similarities.max())
        if best >= self.none_below:
            return scores, 0.0
        of_none = self.none_below / (self.none_below + best)  # more than a half
        return scores * np.float32(1 - of_none), of_none


def has_own_labels(model: Model) -> bool:
    """Whether labels are compared with the model's own, and not by the text encoder."""
    return model.manifest.label_head is not None and not model.manifest.embeds_texts


def own_texts(directory: Path, manifest: Manifest) -> list[str]:
    """Return the texts that a bundle says of its own: a classifier's labels, or the captions among which it chooses;
    none where a language model makes them, or nothing does.

    Raises:
        VljEdgeError: their file does not match the manifest.
    """
    file = manifest.captions if manifest.label_head is None else manifest.label_head.file
    return [] if file is None else read_captions(directory, manifest, file)


def captions_bank(model: Model, progress: Callable[[int], None] = lambda done: None) -> LabelBank:
    """Embed the captions of a bundle, for labels. Of two that are the same to the text encoder, the first is taken.

    Args:
        progress: called with the number of captions done.

    Raises:
        VljEdgeError: the bundle has none, or cannot be used.
    """
    distinct: dict[bytes, str] = {}
    for caption in own_texts(model.directory, model.manifest):
        distinct.setdefault(model.chain.text_ids(caption), caption)
    if not distinct:
        raise WrongCall(f"{model.directory} has no labels or captions of its own: name those to compare with")
    return make_bank(model, list(distinct.values()), ("{}",), progress)


def offered_labels(
    model: Model,
    labels: Sequence[str] | None,
    templates: Sequence[str] | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> LabelBank | OwnLabels:
    """Return what windows are compared with: labels that the text encoder embeds, or labels of the model's own.

    Args:
        labels: None: all of the model's own, or the captions of the bundle.
        templates, progress: as for make_bank().

    Raises:
        VljEdgeError: the model has no labels of its own and none are given, or no text encoder and not these labels; or
            see make_bank().
    """
    head = model.manifest.label_head
    if head is None or not has_own_labels(model):
        if templates and labels is None:
            raise WrongCall("captions are compared as they are: leave the template out, or name labels")
        return captions_bank(model, progress) if labels is None else make_bank(model, labels, templates, progress)
    _, known = model.chain.label_head
    if templates:
        raise WrongCall(f"{model.manifest.family} has labels of its own, which no template words: leave it out")
    if labels is not None:
        check_labels(labels)
    numbers = range(len(known)) if labels is None else [label_number(label, known, model.directory) for label in labels]
    return OwnLabels(tuple(known[n] for n in numbers), head.none_below, tuple(numbers), model.chain.label_logits)


def embed_label(model: Model, label: str) -> Vectors:
    """Return what the probabilities of all the model's own labels are where one of them is certain, float32 [all].

    Its product with probabilities is that of the label: among them it stands for the text, as an embedding does in a
    space that texts and windows share.

    Args:
        label: in any case.

    Raises:
        VljEdgeError: the model has no such label, or none of its own.
    """
    _, known = model.chain.label_head
    certain = np.zeros(len(known), np.float32)
    certain[label_number(label, known, model.directory)] = 1
    return certain


def label_number(label: str, known: Sequence[str], directory: Path) -> int:
    """Return the number of a label: as it is written, or in another case where that fits one label alone.

    Raises:
        WrongText: none fits, or several do.
    """
    if label in known:
        return known.index(label)
    folded = [" ".join(each.split()).casefold() for each in known]
    asked = " ".join(label.split()).casefold()
    if folded.count(asked) == 1:
        return folded.index(asked)
    if asked in folded:
        alike = [f"'{each}'" for each, name in zip(known, folded, strict=True) if name == asked]
        raise WrongText(f"'{label[:60]}' may be {' or '.join(alike)} of {directory}: write it as one of them", label)
    near = difflib.get_close_matches(asked, folded, _NEAR, cutoff=0.4)
    names = [known[folded.index(each)] for each in near] or list(known[:_NEAR])
    shown = ", ".join(f"'{name}'" for name in names)
    raise WrongText(
        f"{directory} has no label '{label[:60]}' among its {len(known)}: {'near it' if near else 'the first'}"
        f" are {shown}; vlj-edge labels --bundle {directory} lists all (one with a comma in it goes into a file)",
        label,
    )
