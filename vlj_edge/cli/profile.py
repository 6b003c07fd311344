"""vlj-edge profile: measure the time of each stage, energy and memory of a narration."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..json_text import json_text
from .options import SOURCE, EngineOptions, engine_options, gates_option, load_model
from .outputs import output_file, write_whole
from .part_options import PartOptions, part_options
from .say import say, stdout_console

if TYPE_CHECKING:
    from vlj_edge.runtime.profiling.profile import Profile
    from vlj_edge.runtime.video.source import Source

    from ..bundle import GateSettings


@click.command(short_help="Measure time, energy and memory of each stage.", epilog=SOURCE)
@click.argument("bundle", required=False)
@click.argument("source", required=False)
@click.option(
    "--against", type=click.Path(path_type=Path), help="Another bundle: run both alternately and print ratios."
)
@click.option("--rounds", default=5, show_default=True, help="Runs of each bundle with --against.")
@click.option("--every-window", is_flag=True, help="Turn all gates off: encode and decode every window.")
@click.option("--no-overlap", is_flag=True, help="Run all steps in one thread, one after another.")
@gates_option
@part_options
@engine_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--md", "as_md", is_flag=True, help="Print a Markdown table.")
@click.option("--html", "html", type=output_file, help="Write a page with distributions, a timeline and similarities.")
@click.option("--trace", "trace_to", type=output_file, help="Write a trace for ui.perfetto.dev.")
def profile(
    bundle: str | None,
    source: str | None,
    against: Path | None,
    rounds: int,
    every_window: bool,
    no_overlap: bool,
    gates: Path | None,
    part: PartOptions,
    engine_options: EngineOptions,
    as_json: bool,
    as_md: bool,
    html: Path | None,
    trace_to: Path | None,
) -> None:
    """Narrate SOURCE with BUNDLE and show the time of each stage, energy where it can be measured, and warnings.

    Without SOURCE, a synthetic minute with alternating 4 s of movement and rest is used; without BUNDLE, nano. A
    single argument is BUNDLE if it is a folder without images, otherwise SOURCE.
    """
    from vlj_edge.runtime.profiling import report
    from vlj_edge.runtime.profiling.probe import Probe
    from vlj_edge.runtime.profiling.profile import compare_profiles, profile

    from ..bundle import NO_GATES
    from ..errors import VljEdgeError

    directory, source = _bundle_and_source(bundle, source, part)
    opened = partial(_open, source, part, directory)
    if gates is not None and every_window:
        raise click.UsageError("--every-window turns all gates off, which --gates sets: give one of them")
    settings = NO_GATES if every_window else _read_gates(gates, directory)
    if against is not None:
        if html or trace_to or as_md:
            raise VljEdgeError("--against prints ratios: leave --html, --trace and --md out, or profile one bundle")
        options: dict[str, Any] = {
            "backend": engine_options.backend,
            "engines": engine_options.engines,
            "threads": engine_options.threads,
            "tokens": engine_options.tokens,
            "overlap": not no_overlap,
        }
        ratios = compare_profiles(directory, against, opened, rounds, gates=settings, **options)
        _print_ratios(ratios, as_json)
        return
    probe = Probe()
    with load_model(directory, engine_options, probe=probe, overlap=not no_overlap) as model:
        found = profile(model, opened(), probe, gates=settings)
    if html is not None:
        write_whole(html, report.page(found, probe, (settings or model.manifest.gates).meaning.speak_below))
    if trace_to is not None:
        write_whole(trace_to, report.trace(probe))
    if as_json:
        say(json_text(found.as_dict()))
    elif as_md:
        for line in report.markdown(found).splitlines():
            say(line)
    else:
        _print(found)


def _read_gates(path: Path | None, bundle: Path) -> GateSettings | None:
    """Return the gates of a file; None for those of each bundle."""
    from ..bundle import read_manifest
    from ..bundle.gate_profile import gates_of_file

    if path is None:
        return None
    manifest = read_manifest(bundle)
    return gates_of_file(path, manifest.gates, manifest)


def _open(source: str | None, part: PartOptions, bundle: Path) -> Source:
    """Open a source that ends; None: the synthetic one."""
    from vlj_edge.runtime.video.part import check_ends
    from vlj_edge.runtime.video.synthetic import SyntheticSource

    from ..bundle import read_manifest

    if source is None:
        return SyntheticSource()
    opened = part.open(source, read_manifest(bundle).clip)
    try:
        check_ends(opened)
    except BaseException:
        opened.close()
        raise
    return opened


def _bundle_and_source(first: str | None, second: str | None, part: PartOptions) -> tuple[Path, str | None]:
    """Return the bundle and the source that the arguments name.

    Raises:
        click.UsageError: options for a part of a source were given without a source.
    """
    from vlj_edge.runtime.video.recordings.folders import has_images

    from ..bundle import nano_bundle

    folder = Path(first or nano_bundle())
    if second is None and (not folder.is_dir() or has_images(folder)):
        return nano_bundle(), first
    if second is None and part != PartOptions():
        raise click.UsageError("options of a source, such as --duration, need a SOURCE")
    return folder, second


def _print(found: Profile) -> None:
    from rich.table import Table

    from vlj_edge.runtime.profiling.report import summary_lines

    console = stdout_console(160)
    columns = ("min", "mean", "p50", "p90", "p95", "p99", "max")
    table = Table("stage, ms", "calls", *columns, "enqueue p50", "device p50", "share", title_justify="left")
    for row in found.rows:
        times = [f"{getattr(row, name):.2f}" for name in columns]
        device = [f"{x:.2f}" if x is not None else "" for x in (row.enqueue_p50, row.device_p50)]
        table.add_row(row.stage, str(row.calls), *times, *device, f"{100 * row.share:.1f} %" if row.share else "")
    console.print(table)
    for line in summary_lines(found):
        console.print(line)
    for line in found.warnings:
        console.print(f"warning: {line}")
    console.print("measured: " + ", ".join(f"{name} {value}" for name, value in found.how.items()))


def _print_ratios(ratios: dict[str, dict[str, float]], as_json: bool) -> None:
    if as_json:
        say(json_text(ratios))
        return
    from rich.table import Table

    console = stdout_console()
    table = Table("", "this bundle", "against", "ratio", "95 % interval")
    for name, row in ratios.items():
        interval = f"{row['low']:.3f} to {row['high']:.3f}"
        table.add_row(name, f"{row['ours']:.3f}", f"{row['theirs']:.3f}", f"{row['ratio']:.3f}", interval)
    console.print(table)
