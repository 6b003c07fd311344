"""Embed what is evaluated: each text once, and each clip once for all its texts and questions.

A model that knows labels of its own alone has no embeddings of texts. Its clips are the probabilities of these labels,
and a text is the label of that name, whose product with them is its probability.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from vlj_edge.errors import VljEdgeError, WrongCall
from vlj_edge.regular_file import check_regular_file

from ..embedding.labels import check_wordings, make_bank
from ..embedding.own_labels import embed_label, has_own_labels, offered_labels
from ..embedding.running_mean import RunningMean
from ..model import Model
from ..stream.run import Run
from ..video.uri import open_source
from .data import Clip, Data

Vectors = npt.NDArray[np.float32]
Result = TypeVar("Result")


@dataclass(frozen=True, eq=False)
class TextEmbeddings:
    """The embeddings of all texts of the data, unit length; of a model with labels of its own, see embed_label().

    Attributes:
        texts: float32 [texts, embedding], in the order of Data.texts; None if there are none. Those of labels are, as
            for `vlj-edge classify`, means over the bundle's wordings of a label.
        choices: of each choice of a question, float32 [embedding].
    """

    texts: Vectors | None
    choices: dict[str, Vectors]


def check_texts(model: Model, data: Data) -> None:
    """Check that a model takes all texts and questions. None is embedded, which may take minutes.

    Raises:
        VljEdgeError: a text or a question is too long for the model, two labels are the same to it, or it has no text
            encoder and, of its own, no such label.
    """
    try:
        _check_texts(model, data)
    except WrongCall as error:  # the texts are no part of the call
        raise VljEdgeError(str(error)) from error


def _check_texts(model: Model, data: Data) -> None:
    if model.manifest.takes_query:
        for asked in {question.question for clip in data.clips for question in clip.questions}:
            model.chain.query(asked)
    own = has_own_labels(model)
    for text in _choices(data):
        _named(text, embed_label if own else _check_length, model)
    if own:
        _check_labels_differ(data.texts, [int(embed_label(model, text).argmax()) for text in data.texts])
    elif data.texts and data.labels:
        check_wordings(model, data.texts)
    else:
        for text in data.texts:
            _named(text, _check_length, model)


def embed_texts(model: Model, data: Data) -> TextEmbeddings:
    """Embed all texts. Raises VljEdgeError: see check_texts()."""
    own = has_own_labels(model)
    embed = embed_label if own else Model.embed_text
    choices = {text: _named(text, embed, model) for text in _choices(data)}
    if not data.texts:
        return TextEmbeddings(None, choices)
    if data.labels and not own:
        return TextEmbeddings(make_bank(model, data.texts).embeddings, choices)
    return TextEmbeddings(np.stack([_named(text, embed, model) for text in data.texts]), choices)


def embed_clip(model: Model, clip: Clip) -> Vectors:
    """Return the mean embedding of a clip under the bundle's query for labels, and then under each of its questions,
    float32 [1 + questions, embedding], unit length. A model that takes no query has the same for all.

    Raises:
        VljEdgeError: the clip cannot be read to its end, or has no window.
    """
    whole = RunningMean()
    with ExitStack() as opened:
        run = opened.enter_context(_windows(model, clip, opened))
        for item in run:
            whole.add(item.window, item.embeddings if model.manifest.takes_query else item.embedding)
    span = whole.span()
    if span is None:
        raise VljEdgeError(f"{clip.name} has no window to look at: give a longer part")
    if model.manifest.takes_query:
        return span.mean
    seen = offered_labels(model, None).similarities(span.mean) if has_own_labels(model) else span.mean
    return np.repeat(seen[None], 1 + len(clip.questions), axis=0)


def check_recording(video: Path) -> None:
    """Raise VljEdgeError if a path names nothing, or something that is no recording, such as a camera."""
    if not os.path.exists(video):  # unlike Path.exists(), whatever the name is
        raise VljEdgeError(f"{video} does not exist: check the path")
    if not os.path.isdir(video):
        check_regular_file(video, "name a video file")  # a camera never ends


def _windows(model: Model, clip: Clip, opened: ExitStack) -> Run[Any]:
    check_recording(clip.video)
    rate = model.manifest.clip.frames_per_second
    source = opened.enter_context(open_source(clip.video, start=clip.start, end=clip.end, sampled_at=rate))
    if not model.manifest.takes_query:
        return model.embed(source)
    query = model.manifest.labels.query or model.manifest.default_query
    return model.ask(source, [query, *(each.question for each in clip.questions)])


def _check_labels_differ(texts: Sequence[str], numbers: Sequence[int]) -> None:
    known: dict[int, str] = {}
    for text, number in zip(texts, numbers, strict=True):
        if (same := known.setdefault(number, text)) != text:
            raise VljEdgeError(f"'{text}' and '{same}' are the same label of the model: write it in one way")


def _choices(data: Data) -> list[str]:
    return sorted({text for clip in data.clips for question in clip.questions for text in question.choices})


def _check_length(model: Model, text: str) -> None:
    model.chain.text_ids(text)


def _named(text: str, use: Callable[[Model, str], Result], model: Model) -> Result:
    """Return what `use` makes of a text. Raises VljEdgeError: it cannot be used; the text is in the message."""
    try:
        return use(model, text)
    except VljEdgeError as error:
        if text[:60] in str(error):
            raise
        raise VljEdgeError(f"'{text[:60]}': {error}") from error
