"""vlj-edge ask: answer questions about a source by choosing among given answers."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import VljEdgeError, without_credentials
from ..json_text import json_text
from .batch import hint_at_photos, refuse_several
from .options import (
    REPEAT_AFTER,
    SOURCE,
    EngineOptions,
    bundle_option,
    engine_options,
    gates_option,
    json_lines_option,
    load_model,
)
from .part_options import PartOptions, part_options
from .progress import progress
from .say import say, tell_once

if TYPE_CHECKING:
    from ..results import Answer


@click.command(short_help="Answer questions about a video by choosing among given answers.", epilog=SOURCE)
@click.argument("source")
@click.argument("questions", nargs=-1, required=True)
@click.option(
    "--choices",
    multiple=True,
    help="Comma-separated answers, or a text file with one on each line: one --choices for all questions, or one for"
    " each.",
)
@part_options
@bundle_option
@gates_option
@engine_options
@json_lines_option
def ask(
    source: str,
    questions: tuple[str, ...],
    choices: tuple[str, ...],
    part: PartOptions,
    bundle: Path | None,
    gates: Path | None,
    engine_options: EngineOptions,
    as_json: bool,
) -> None:
    """Answer QUESTIONS about SOURCE, each with the choice whose embedding is nearest to the predicted one.

    Choices say what is seen: "the drawer is open,the drawer is closed". Yes and no cannot be compared with a video.

    The video is encoded once for all questions. Of a camera, an answer is printed whenever it changes and once a
    minute, and those for all of it on Ctrl-C or after --duration.
    """
    from vlj_edge.runtime.embedding.ask import Questions, check_questions

    from ..text_list import read_texts, texts_of_file
    from .interrupts import finishing, interrupts_deferred

    if len(choices) > 1 and len(choices) != len(questions):
        raise click.UsageError(f"{len(questions)} questions and {len(choices)} --choices: give one, or one for each")
    lists = [read_texts(listed, "choice") for listed in choices]
    if len(lists) == 1:
        lists *= len(questions)
    check_questions(questions, lists or None)
    for question in questions:
        if os.path.isfile(question):
            raise click.UsageError(
                f"{question} is a file, and stands where a question does: name one source, and put it first"
            )
    refuse_several(source, "vlj-edge classify, which answers for each")
    part.check(source)
    hint_at_photos(source, part, f"vlj-edge classify {source}/* answers for each")
    with (
        load_model(bundle, engine_options, gates=gates) as model,
        part.open(source, model.manifest.clip) as opened,
    ):
        with ExitStack() as files:
            for listed in choices:
                files.enter_context(texts_of_file(listed))
            asked = Questions(model, questions, lists or None, every=REPEAT_AFTER)
        tell_once(model.manifest.labels.caveat)
        lines = _Lines(without_credentials(source), len(questions) > 1, as_json)
        with (
            asked.windows(opened) as windows,
            progress(windows, opened),
            finishing(lambda: lines.print_all(asked.answers())),
        ):
            for window in windows:
                changed = asked.add(window)
                if windows.live:
                    with interrupts_deferred():
                        lines.print_changes(changed)
        if not asked.answers():
            raise VljEdgeError(f"{without_credentials(source)} has no window to look at: give a longer video")


@dataclass(frozen=True)
class _Lines:
    """How answers are printed: the source's name, whether there are several questions, and --json."""

    source: str
    several: bool
    as_json: bool

    def print_all(self, answers: list[Answer]) -> None:
        """Print the answers about the whole source."""
        for answer in answers:
            if self.as_json or self.several:
                say(self._json(answer) if self.as_json else _in_one_line(answer, True))
            else:
                for guess in answer.guesses:
                    say(f"{guess.score:.2f}  {guess.label}")

    def print_changes(self, answers: list[Answer]) -> None:
        """Print answers that have changed, each with its time."""
        for answer in answers:
            line = f"{(answer.start + answer.end) / 2:6.1f} s  {_in_one_line(answer, self.several)}"
            say(self._json(answer) if self.as_json else line)

    def _json(self, answer: Answer) -> str:
        return json_text({"source": self.source, "clock": time.time()} | answer.as_dict())


def _in_one_line(answer: Answer, with_question: bool) -> str:
    question = f"{answer.question}  " if with_question else ""
    return f"{question}{answer.choice}  ({answer.guesses[0].score:.2f})"
