"""Answer multiple-choice questions: the question is the predictor's query, the answer the nearest choice."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from vlj_edge.errors import SourceBrokeOff, VljEdgeError
from vlj_edge.results import Answer

from ..model import Model
from ..video.arrays import AnySource
from .classify import mean_direction, ranking
from .labels import LabelBank, make_bank, refuse_string

_NO_EVIDENCE = {"yes", "no", "true", "false", "maybe", "yes it is", "no it is not"}  # describe nothing that is seen
_REMEDY = 'name answers that say what is seen, --choices "the drawer is open,the drawer is closed"'


def answer_questions(
    model: Model, source: AnySource, questions: Sequence[str], choices: Sequence[Sequence[str]] | None = None
) -> list[Answer]:
    """Answer questions about a whole source. Every window is encoded once for all questions.

    Args:
        choices: the possible answers, one list a question: statements of what is seen, "the drawer is open".

    Raises:
        VljEdgeError: there is no question; a question has fewer than two choices, or yes and no in place of what is
            seen; two choices are the same to the text encoder; or the source or the bundle cannot be used.
        SourceBrokeOff: the source ended too early; `found` has the answers about the part that was read.
    """
    refuse_string(questions, "questions")
    choices = _checked(model, questions, choices)
    if len(choices) != len(questions):
        raise VljEdgeError(f"{len(questions)} questions have {len(choices)} lists of choices: give each its own")
    banks = _banks(model, choices)
    total, count = np.zeros((len(questions), model.manifest.embedding), np.float64), 0
    start = end = 0.0
    broken: SourceBrokeOff | None = None
    with model.ask(source, questions) as windows:
        try:
            for window in windows:
                total += window.embeddings
                start = start if count else window.window.start
                count, end = count + 1, window.window.end
        except SourceBrokeOff as error:
            broken = error
    if not count:
        raise broken or VljEdgeError("the source has no window to look at: give a longer video")
    temperature = model.manifest.labels.temperature
    answers = [
        _answer(question, mean, bank, temperature, start, end)
        for question, mean, bank in zip(questions, mean_direction(total), banks, strict=True)
    ]
    if broken is not None:
        broken.found = answers
        raise broken
    return answers


def _checked(
    model: Model, questions: Sequence[str], choices: Sequence[Sequence[str]] | None
) -> Sequence[Sequence[str]]:
    """Return the choices, unless they are missing, or bare words for yes and no to a question on which the model was
    not trained: of these, "no" would be the answer to nearly everything."""
    if questions and choices is None:
        raise VljEdgeError(f"'{questions[0][:60]}' has no answers to compare with the video: {_REMEDY}")
    queries = model.chain.trained_queries
    for question, given in zip(questions, choices or (), strict=False):
        bare = all(" ".join(re.findall(r"\w+", each.casefold())) in _NO_EVIDENCE for each in given)
        if given and bare and question not in queries:
            raise VljEdgeError(f"the model was not trained to answer '{question[:60]}' with yes or no: {_REMEDY}")
    return choices or ()


def _banks(model: Model, choices: Sequence[Sequence[str]]) -> list[LabelBank]:
    made: dict[tuple[str, ...], LabelBank] = {}
    for each in choices:
        refuse_string(each, "choices")
        if len(each) < 2:
            raise VljEdgeError("a question needs two choices or more: name them with commas between")
        made.setdefault(tuple(each), make_bank(model, each, templates=("{}",)))
    return [made[tuple(each)] for each in choices]


def _answer(question: str, mean: np.ndarray, bank: LabelBank, temperature: float, start: float, end: float) -> Answer:
    guesses, _ = ranking(mean, bank, temperature)
    return Answer(question, guesses[0].label, guesses, start, end)
