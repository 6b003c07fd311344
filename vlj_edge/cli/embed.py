"""vlj-edge embed: write the embeddings of a source. Neither decoder nor text encoder is loaded."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .batch import hint_at_photos, refuse_several
from .budget_options import BudgetOptions, encodes_option
from .options import (
    SOURCE,
    EngineOptions,
    NumberRange,
    bank_option,
    bundle_option,
    engine_options,
    gates_option,
    load_model,
    query_option,
)
from .outputs import RESULTS_STAY_AFTER, output_file, results_file
from .part_options import PartOptions, Seconds, part_options
from .progress import progress
from .say import tell

if TYPE_CHECKING:
    from vlj_edge.runtime.embedding.writers import EmbeddingWriter, Shorten
    from vlj_edge.runtime.model import Model

    from ..bundle import Manifest


_KEPT = 100_000  # embeddings in --ring


@dataclass(frozen=True)
class _Output:
    """The outputs of the embeddings and their form: the options of these names."""

    kind: str
    out: Path | None
    ring: Path | None
    keep: int
    form: str | None
    width: int | None
    events: bool


@click.command(short_help="Write an embedding for each window of a video or camera.", epilog=SOURCE)
@click.argument("source")
@click.option("--format", "kind", type=click.Choice(["json", "npz", "binary"]), default="json", show_default=True)
@click.option("--out", type=output_file, help="Write to this file instead of stdout.")
@click.option("--ring", type=output_file, help="Keep the newest embeddings in this file of fixed size.")
@click.option(
    "--keep", default=_KEPT, show_default=True, type=click.IntRange(1), help="Number of embeddings in --ring."
)
@click.option(
    "--form", help="Format of numbers in --ring and --format binary: float32, float16, int8 or bit.  [default: float16]"
)
@click.option("--width", type=click.IntRange(1), help="Dimensions of each embedding; all if not given.")
@click.option(
    "--every", type=Seconds(), default=0.0, help="Time between two windows, such as 2s; every window if not given."
)
@click.option("--on-change", is_flag=True, help="Only windows in which the picture changed.")
@bank_option
@click.option(
    "--novel-below",
    type=NumberRange(-1, 1),
    help="Report a window as novel if its similarity to all novel ones so far is below this; that of --gates if not"
    " given.",
)
@click.option("--events", is_flag=True, help="Print only events: another nearest label, or something novel.")
@encodes_option
@part_options
@query_option
@bundle_option
@gates_option
@engine_options
def embed(
    source: str,
    every: float,
    on_change: bool,
    bank: Path | None,
    novel_below: float | None,
    encodes_per_minute: float | None,
    part: PartOptions,
    query: str | None,
    bundle: Path | None,
    gates: Path | None,
    engine_options: EngineOptions,
    **output_options: Any,
) -> None:
    """Write an embedding for each window of SOURCE, or only for new ones.

    --threads 1 uses the least energy.
    """
    output = _Output(**output_options)
    if novel_below is None and gates is not None:
        novel_below = _novel_below(gates)
    _check(output, can_report_events=bank is not None or novel_below is not None)
    from vlj_edge.runtime.embedding.labels import load_bank
    from vlj_edge.runtime.embedding.novelty import NoveltyDetector, observe
    from vlj_edge.runtime.embedding.quantize import parse_format

    from .interrupts import interrupts_deferred

    parse_format(output.form or "float16")
    refuse_several(source, "vlj-edge index, which stores the embeddings of all")
    part.check(source)
    hint_at_photos(source, part, f"vlj-edge index {source}/* --store DIR stores the embedding of each")
    kept = 0
    with ExitStack() as cleanup:
        model = cleanup.enter_context(load_model(bundle, engine_options, gates=gates))
        manifest = model.manifest
        shorten = _shorten(model, output.width)
        label_bank = load_bank(bank, model) if bank is not None else None
        novelty = NoveltyDetector(novel_below, manifest.embedding) if novel_below is not None else None
        question = query or (manifest.labels.query if label_bank is not None else None) or None
        opened = cleanup.enter_context(part.open(source, manifest.clip))
        in_use = BudgetOptions(encodes_per_minute=encodes_per_minute).applied_to(manifest.gates)
        items = cleanup.enter_context(model.embed(opened, query=question, gates=in_use, every=every))
        cleanup.enter_context(progress(items, opened))  # first: it may redirect stdout, which the writers then use
        writers = _open_writers(cleanup, manifest, output, shorten, opened.live)
        for observation in observe(items, label_bank, manifest.labels.none_below, novelty):
            if on_change and not observation.item.encoded:
                continue
            kept += 1
            with interrupts_deferred():
                for writer in writers:
                    writer.write(observation)
    totals = items.totals
    left_out = f", {totals.looks_left_out} looks left out" if in_use.budget.encodes_per_minute > 0 else ""
    tell(
        f"{totals.windows} windows, {totals.encoder_runs} encoder runs, {kept} embeddings,"
        f" {totals.video_seconds:.1f} s of video at {totals.real_time_factor:.1f}x real time{left_out}"
    )


def _novel_below(gates: Path) -> float | None:
    from ..bundle import GateSettings
    from ..bundle.gate_profile import read_gate_profile

    return read_gate_profile(gates, GateSettings()).novel_below


def _shorten(model: Model, width: int | None) -> Shorten:
    from vlj_edge.runtime.embedding.quantize import read_basis, shorten

    from ..errors import WrongCall

    full = model.manifest.embedding
    if width is None or width == full:
        return partial(shorten, width=full)
    if width > full:
        raise WrongCall(f"the embeddings have {full} dimensions, not {width}: give a smaller --width")
    basis = read_basis(model.directory, model.manifest)
    if basis is not None and width > basis.shape[1]:
        raise WrongCall(f"{model.directory} shortens embeddings to {basis.shape[1]} dimensions or fewer, or not at all")
    return partial(shorten, width=width, basis=basis)


def _check(output: _Output, can_report_events: bool) -> None:
    if output.kind != "json" and output.out is None:
        raise click.UsageError(f"--format {output.kind} writes a file: name it with --out")
    if output.form and output.ring is None and output.kind != "binary":
        raise click.UsageError("--form is for --ring and --format binary: JSON and npz hold float32")
    if output.keep != _KEPT and output.ring is None:
        raise click.UsageError("--keep is for --ring: name its file")
    if output.events and not can_report_events:
        raise click.UsageError("--events needs --bank or --novel-below")


def _open_writers(
    cleanup: ExitStack, manifest: Manifest, output: _Output, shorten: Shorten, live: bool
) -> list[EmbeddingWriter]:
    """Open a writer for each output. With --out or --ring, stdout gets only events."""
    from vlj_edge.runtime.embedding.writers import JsonLinesWriter, NumpyWriter, RecordWriter

    from ..atomic_write import atomic_write

    width, form, out = output.width or manifest.embedding, output.form or "float16", output.out
    writers: list[EmbeddingWriter] = []
    if output.kind == "npz" and out is not None:
        whole = cleanup.enter_context(atomic_write(out, RESULTS_STAY_AFTER))
        writers.append(NumpyWriter(whole, manifest, width, shorten))
    elif output.kind == "binary" and out is not None:
        writers.append(RecordWriter(out, manifest, form, width, shorten))
    elif out is not None:
        lines = cleanup.enter_context(results_file(out, live))
        writers.append(JsonLinesWriter(lines, shorten, events=False))
    if output.ring is not None:
        writers.append(RecordWriter(output.ring, manifest, form, width, shorten, output.keep))
    if output.events or not writers:
        writers.append(JsonLinesWriter(sys.stdout, shorten, output.events))
    for writer in writers:
        cleanup.callback(writer.close)
    return writers
