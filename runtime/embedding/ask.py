"""Answer multiple-choice questions: the question is the predictor's query, the answer the nearest choice.

For a model that takes no query the choices alone are compared with what is seen, and the question is only repeated.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from vlj_edge.errors import SourceBrokeOff, VljEdgeError, WrongCall
from vlj_edge.results import Answer, WindowAnswers, WindowEmbedding

from ..model import Model
from ..stream.run import Run
from ..video.arrays import AnySource, to_source
from .classify import ranking
from .labels import LabelBank, refuse_string
from .own_labels import OwnLabels, has_own_labels, offered_labels
from .running_mean import ChangeDetector, RunningMean, Span, Vectors

_NO_EVIDENCE = {"yes", "no", "true", "false", "maybe", "yes it is", "no it is not"}  # describe nothing that is seen
_REMEDY = 'name answers that say what is seen, --choices "the drawer is open,the drawer is closed"'


class Questions:
    """Questions about a source, answered while its windows come.

    Args:
        choices, errors: as for answer_questions().
        hold: windows in a row in which another choice must be nearest before an answer has changed.
        every: seconds after which an answer is given even if it has not changed.
    """

    def __init__(
        self,
        model: Model,
        questions: Sequence[str],
        choices: Sequence[Sequence[str]] | None,
        hold: int = 2,
        every: float = float("inf"),
    ) -> None:
        choices = check_questions(questions, choices)
        _refuse_bare_words(model, questions, choices)
        self._questions, self._banks = list(questions), _banks(model, choices)
        self._model = model
        self._settings = replace(model.manifest.labels, none_below=-1.0)  # one of the choices is the answer
        self._whole = RunningMean()
        self._changes = [ChangeDetector(partial(_nearest, bank), hold, every) for bank in self._banks]

    def windows(self, source: AnySource) -> Run[Any]:
        """Return the windows of a source, to be passed to add()."""
        model = self._model
        return model.ask(source, self._questions) if model.manifest.takes_query else model.embed(source)

    def add(self, item: WindowAnswers | WindowEmbedding) -> list[Answer]:
        """Add the next of windows(). Return the answers that have changed."""
        if isinstance(item, WindowAnswers):
            embeddings = item.embeddings
        else:
            embeddings = np.repeat(item.embedding[None], len(self._questions), axis=0)
        self._whole.add(item.window, embeddings)
        spans = [
            change.add(item.window, embedding) for change, embedding in zip(self._changes, embeddings, strict=True)
        ]
        return [self._answer(number, span) for number, span in enumerate(spans) if span is not None]

    def answers(self) -> list[Answer]:
        """Return the answer to each question about all windows so far; none if there was no window."""
        whole = self._whole.span()
        if whole is None:
            return []
        return [self._answer(n, Span(mean, whole.start, whole.end)) for n, mean in enumerate(whole.mean)]

    def _answer(self, number: int, span: Span) -> Answer:
        guesses, _ = ranking(span.mean, self._banks[number], self._settings)
        return Answer(self._questions[number], guesses[0].label, guesses, span.start, span.end)


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
    for each in choices or ():
        refuse_string(each, "choices")
    broken: SourceBrokeOff | None = None
    with to_source(source, model.manifest.clip.frames_per_second) as opened:  # first: a wrong path is the first fault
        asked = Questions(model, questions, choices)
        with asked.windows(opened) as windows:
            try:
                for window in windows:
                    asked.add(window)
            except SourceBrokeOff as error:
                broken = error
    answers = asked.answers()
    if broken is not None:
        broken.found = answers
        raise broken
    if not answers:
        raise VljEdgeError("the source has no window to look at: give a longer video")
    return answers


def check_questions(questions: Sequence[str], choices: Sequence[Sequence[str]] | None) -> Sequence[Sequence[str]]:
    """Check what needs no model, and return the choices.

    Raises:
        WrongCall: a question is empty, or has no list of its own of two choices or more.
    """
    refuse_string(questions, "questions")
    for question in questions:
        if not question.strip():
            raise WrongCall("a question is empty: ask something")
    if questions and not choices:
        raise WrongCall(f"'{questions[0][:60]}' has no answers to compare with the video: {_REMEDY}")
    choices = choices or ()
    if len(choices) != len(questions):
        raise WrongCall(f"{len(questions)} questions have {len(choices)} lists of choices: give each its own")
    for each in choices:
        refuse_string(each, "choices")
        if len(each) < 2:
            raise WrongCall("a question needs two choices or more: name them with commas between")
    return choices


def _refuse_bare_words(model: Model, questions: Sequence[str], choices: Sequence[Sequence[str]]) -> None:
    """Refuse choices that are bare words for yes and no to a question on which the model was not trained, or that it is
    not asked: of these, "no" would be the answer to nearly everything."""
    queries = model.chain.trained_queries
    for question, given in zip(questions, choices, strict=True):
        bare = all(" ".join(re.findall(r"\w+", each.casefold())) in _NO_EVIDENCE for each in given)
        if given and bare and (question not in queries or not model.manifest.takes_query):
            raise WrongCall(f"the model was not trained to answer '{question[:60]}' with yes or no: {_REMEDY}")


def _banks(model: Model, choices: Sequence[Sequence[str]]) -> list[LabelBank | OwnLabels]:
    made: dict[tuple[str, ...], LabelBank | OwnLabels] = {}
    for each in choices:
        if tuple(each) not in made:
            bank = offered_labels(model, each, templates=None if has_own_labels(model) else ("{}",))
            made[tuple(each)] = replace(bank, none_below=0.0) if isinstance(bank, OwnLabels) else bank
    return [made[tuple(each)] for each in choices]


def _nearest(bank: LabelBank | OwnLabels, embedding: Vectors) -> int:
    return int(bank.similarities(embedding).argmax())
