"""vlj-edge classify: a source and labels in, the labels that it shows out."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .options import EngineOptions, bundle_option, engine_options, json_lines_option, load_model

if TYPE_CHECKING:
    from ..results import Classification


@click.command()
@click.argument("source")
@click.option("--labels", "given", help="Labels with commas between, or a file with one a line.")
@click.option("--bank", type=click.Path(path_type=Path), help="A bank that vlj-edge labels made, in place of --labels.")
@click.option("--template", "templates", multiple=True, help='Wording with {} for the label, such as "a video of {}".')
@click.option("--top", default=5, show_default=True, type=click.IntRange(1), help="How many labels to show.")
@click.option("--none-below", type=click.FloatRange(-1, 1), help="Cosine below which it is none of these.")
@click.option("--stream", is_flag=True, help="Speak whenever the answer changes, in place of once for all.")
@bundle_option
@engine_options
@click.option("--query", help="What the model is asked; the bundle's own question about labels when not named.")
@json_lines_option
def classify(
    source: str,
    given: str | None,
    bank: Path | None,
    templates: tuple[str, ...],
    top: int,
    none_below: float | None,
    stream: bool,
    bundle: Path | None,
    engine_options: EngineOptions,
    query: str | None,
    as_json: bool,
) -> None:
    """Which of the labels does SOURCE show?

    SOURCE is a video file, a folder of images, or a camera (0, /dev/video0, v4l2:///dev/video0).
    """
    from vlj_edge.runtime.embedding.classify import classify, watch
    from vlj_edge.runtime.embedding.labels import load_bank, make_bank, read_labels

    from ..errors import VljEdgeError
    from .interrupts import interrupts_deferred

    if (given is None) == (bank is None):
        raise click.UsageError("give either --labels or --bank")
    if bank is not None and templates:
        raise click.UsageError("--template is for --labels: a bank's wordings were chosen when it was made")
    model = load_model(bundle, engine_options)
    if bank is not None:
        known = load_bank(bank, model)
    else:
        known = make_bank(model, read_labels(given or ""), templates or None)
    settings = model.manifest.labels
    if none_below is not None:
        settings = replace(settings, none_below=none_below)
    with closing(model.embed(source, query=query or settings.query or None)) as items:
        if not stream:
            click.echo(_line(classify(items, known, settings, top), as_json, stream))
            return
        said = 0
        for answer in watch(items, known, settings, top):
            with interrupts_deferred():
                click.echo(_line(answer, as_json, stream))
            said += 1
        if not said:
            raise VljEdgeError(f"{source} shows nothing for long enough to speak of it: try without --stream")


def _line(answer: Classification, as_json: bool, stream: bool) -> str:
    if as_json:
        return json.dumps(answer.as_dict(), ensure_ascii=False)
    if stream:
        score = f"  ({answer.guesses[0].score:.2f})" if answer.label is not None else ""
        return f"{(answer.start + answer.end) / 2:6.1f} s  {answer.label or 'none of these'}{score}"
    lines = [f"{guess.score:.2f}  {guess.label}" for guess in answer.guesses]
    return "\n".join(lines if answer.label is not None else ["none of these; the nearest:", *lines])
