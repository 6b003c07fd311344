"""vlj-edge classify: rank labels by how well they describe a source."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import (
    EngineOptions,
    bank_option,
    bundle_option,
    engine_options,
    json_lines_option,
    label_query_option,
    load_model,
    open_for,
    reading_options,
    template_option,
    top_option,
)

if TYPE_CHECKING:
    from ..results import Classification


@click.command(short_help="Rank labels by how well they describe a video or camera.")
@click.argument("source")
@click.option("--labels", "label_list", help="Comma-separated labels, or a file with one on each line.")
@bank_option
@template_option
@top_option
@click.option(
    "--none-below",
    type=click.FloatRange(-1, 1),
    help="Answer 'none of these' below this similarity; the bundle's if not given.",
)
@click.option("--stream", is_flag=True, help="Print the answer whenever it changes, not one for the whole source.")
@bundle_option
@reading_options
@engine_options
@label_query_option
@json_lines_option
def classify(
    source: str,
    label_list: str | None,
    bank: Path | None,
    templates: tuple[str, ...],
    top: int,
    none_below: float | None,
    stream: bool,
    bundle: Path | None,
    engine_options: EngineOptions,
    reading: dict[str, Any],
    query: str | None,
    as_json: bool,
) -> None:
    """Rank labels by how well they describe SOURCE: one answer for all of it, or with --stream one at every change.

    SOURCE is a video file, a folder of images, or a camera (0, /dev/video0, v4l2:///dev/video0), for which the one
    answer comes on Ctrl-C. A video in which several things happen is on average like none of them: use --stream.

    The number beside a label is its probability, given that one of the labels is right; they add up to 1. If even the
    nearest label has a cosine (in --json) below --none-below, the answer is 'none of these'.
    """
    from vlj_edge.runtime.embedding.classify import classify, watch
    from vlj_edge.runtime.embedding.labels import load_bank, make_bank, read_labels

    from ..errors import VljEdgeError, without_credentials
    from .interrupts import interrupts_deferred, until_broken, until_interrupted, was_interrupted

    if (label_list is None) == (bank is None):
        raise click.UsageError("give either --labels or --bank")
    if bank is not None and templates:
        raise click.UsageError("--template is for --labels: a bank keeps the wordings it was made with")
    with load_model(bundle, engine_options) as model:
        if bank is not None:
            label_bank = load_bank(bank, model)
        else:
            label_bank = make_bank(model, read_labels(label_list or ""), templates or None)
        settings = model.manifest.labels
        if none_below is not None:
            settings = replace(settings, none_below=none_below)
        question = query or settings.query or None
        with open_for(model, source, reading) as opened, model.embed(opened, query=question) as items:
            if not stream:
                for answer in until_broken(lambda: [classify(until_interrupted(items), label_bank, settings, top)]):
                    click.echo(_answer(answer, settings.none_below, as_json))
                if was_interrupted():
                    raise KeyboardInterrupt
                return
            printed = 0
            for answer in watch(items, label_bank, settings, top):
                with interrupts_deferred():
                    click.echo(_change(answer, as_json))
                printed += 1
    if not printed:
        raise VljEdgeError(f"{without_credentials(source)} shows no label for two windows: leave --stream out")


def _change(answer: Classification, as_json: bool) -> str:
    if as_json:
        return json.dumps(answer.as_dict(), ensure_ascii=False)
    score = f"  ({answer.guesses[0].score:.2f})" if answer.label is not None else ""
    return f"{(answer.start + answer.end) / 2:6.1f} s  {answer.label or 'none of these'}{score}"


def _answer(answer: Classification, none_below: float, as_json: bool) -> str:
    if as_json:
        return json.dumps(answer.as_dict(), ensure_ascii=False)
    lines = [f"{guess.score:.2f}  {guess.label}" for guess in answer.guesses]
    if answer.label is None:
        similarity = answer.guesses[0].similarity
        lines.insert(0, f"none of these (similarity {similarity:.2f} is below {none_below:.2f}); if it had to be one:")
    return "\n".join(lines)
