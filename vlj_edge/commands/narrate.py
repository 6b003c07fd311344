"""vlj-edge narrate: a source in, lines of time and text out."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from vlj_edge.results import Totals

_ENGINES = "A folder of TensorRT engines that were built elsewhere and that you trust."


@click.command()
@click.argument("source")
@click.option("--bundle", type=click.Path(path_type=Path), help="Bundle directory; the nano bundle when not named.")
@click.option("--query", help="What the model is asked; the bundle's own question when not named.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line: the texts, then the totals.")
@click.option("--srt", type=click.Path(path_type=Path, dir_okay=False), help="Write subtitles to this file as well.")
@click.option("--backend", help="onnxruntime or tensorrt, in place of the best that works here.")
@click.option("--engines", type=click.Path(path_type=Path, exists=True, file_okay=False), help=_ENGINES)
@click.option("--every-window", is_flag=True, help="Decode every window with all gates off: the baseline.")
def narrate(
    source: str,
    bundle: Path | None,
    query: str | None,
    as_json: bool,
    srt: Path | None,
    backend: str | None,
    engines: Path | None,
    every_window: bool,
) -> None:
    """Say what happens in SOURCE, when it changes.

    SOURCE is a video file, a folder of images, or a camera (0, /dev/video0, v4l2:///dev/video0).
    """
    import vlj_edge
    from vlj_edge.errors import VljEdgeError
    from vlj_edge.runtime.sinks import SrtWriter, json_line, plain_line

    from .interrupts import held_back

    if srt and srt.exists() and Path(source).exists() and srt.samefile(source):
        raise VljEdgeError(f"--srt {srt} is what is to be narrated, and would be overwritten: name another file")
    model = vlj_edge.load(bundle, backend=backend, engines=engines)
    narrations = model.narrate(source, query=query, every_window=every_window)
    click.echo(f"backend: {model.backend.line}", err=True)
    with ExitStack() as cleanup:
        cleanup.callback(narrations.close)
        subtitles = SrtWriter(cleanup.enter_context(srt.open("w", encoding="utf-8"))) if srt else None
        try:
            for narration in narrations:
                with held_back():
                    click.echo(json_line(narration) if as_json else plain_line(narration))
                    if subtitles:
                        subtitles.add(narration)
        finally:  # also after Ctrl-C or a source that broke off
            with held_back():
                if subtitles:
                    subtitles.finish(narrations.totals.video_seconds)
                click.echo(_totals_json(narrations.totals) if as_json else _totals_line(narrations.totals))


def _totals_json(totals: Totals) -> str:
    return json.dumps({"totals": totals.as_dict()})


def _totals_line(totals: Totals) -> str:
    saved = f"{totals.decodes_saved:.1f}x fewer than" if totals.decoder_runs else "against"
    return (
        f"{totals.windows} windows, {totals.encoder_runs} encoder runs, {totals.decoder_runs} decoder runs"
        f" ({saved} decoding every window), {totals.video_seconds:.1f} s of video"
        f" at {totals.real_time_factor:.1f}x real time"
    )
