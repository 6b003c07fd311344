"""vlj-edge ask: answer questions about a source by choosing among given answers."""

from __future__ import annotations

import time
from pathlib import Path

import click

from ..errors import without_credentials
from ..json_text import json_text
from .options import SOURCE, EngineOptions, bundle_option, engine_options, json_lines_option, load_model
from .part_options import PartOptions, part_options
from .say import say


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
@engine_options
@json_lines_option
def ask(
    source: str,
    questions: tuple[str, ...],
    choices: tuple[str, ...],
    part: PartOptions,
    bundle: Path | None,
    engine_options: EngineOptions,
    as_json: bool,
) -> None:
    """Answer QUESTIONS about SOURCE, each with the choice whose embedding is nearest to the predicted one.

    Choices say what is seen: "the drawer is open,the drawer is closed". Yes and no cannot be compared with a video.

    The video is encoded once for all questions. A camera needs --duration.
    """
    from vlj_edge.runtime.embedding.ask import answer_questions

    from ..text_list import read_texts
    from .interrupts import until_broken

    if len(choices) > 1 and len(choices) != len(questions):
        raise click.UsageError(f"{len(questions)} questions and {len(choices)} --choices: give one, or one for each")
    lists = [read_texts(listed, "choice") for listed in choices]
    if len(lists) == 1:
        lists *= len(questions)
    with (
        load_model(bundle, engine_options) as model,
        part.open(source, model.manifest.clip) as opened,
    ):
        for answer in until_broken(lambda: answer_questions(model, opened, questions, lists or None)):
            if as_json:
                fields = {"source": without_credentials(source), "clock": time.time()} | answer.as_dict()
                say(json_text(fields))
            elif len(questions) == 1:
                for guess in answer.guesses:
                    say(f"{guess.score:.2f}  {guess.label}")
            else:
                say(f"{answer.question}  {answer.choice}  ({answer.guesses[0].score:.2f})")
