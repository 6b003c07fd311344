"""vlj-edge profile: measure the time of each stage, energy and memory of a narration."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import SOURCE, EngineOptions, NumberRange, command_line, engine_options, gates_option, load_model
from .outputs import output_file
from .part_options import PartOptions, Seconds, part_options
from .profile_against import AGAINST, compare, compare_engines_alone
from .profile_engines import measure_engines
from .profile_output import ProfileOutput
from .say import tell

if TYPE_CHECKING:
    from vlj_edge.runtime.stream.run import Run
    from vlj_edge.runtime.video.source import Source

    from ..bundle import GateSettings

_ENDLESS = 1e6  # seconds of the synthetic stream, where something else ends it
_ROUNDS = 5


@click.command(short_help="Measure time, energy and memory of each stage.", epilog=SOURCE)
@click.argument("bundle", required=False)
@click.argument("source", required=False)
@click.option(
    "--bundle", "bundle_option", type=click.Path(path_type=Path), help="Bundle directory, as in other commands."
)
@click.option("--seconds", type=Seconds(0.1), help="Measure no longer than this, in wall time.")
@click.option("--windows", type=click.IntRange(1), help="Measure no more windows than this.")
@click.option("--warmup", default=3, show_default=True, type=click.IntRange(0), help="Runs of the engines before it.")
@click.option("--repeat", default=1, show_default=True, type=click.IntRange(1), help="Passes over SOURCE.")
@click.option("--against", metavar="BUNDLE|FILE|SETTINGS", help=AGAINST)
@click.option("--rounds", default=_ROUNDS, show_default=True, help="Runs of each side with --against.")
@click.option(
    "--fail-over",
    type=NumberRange(0),
    help="With --against: exit with 1 if a window, its CPU time or a stage of 5 % takes more times as long.",
)
@click.option("--engines-only", is_flag=True, help="No source: time each engine by itself, 3 s if not --seconds.")
@click.option("--every-window", is_flag=True, help="Turn all gates off: encode and decode every window.")
@click.option("--no-overlap", is_flag=True, help="Run all steps in one thread, one after another.")
@gates_option
@part_options
@engine_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--md", "as_md", is_flag=True, help="Print a Markdown table.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV: a line a stage, each with all conditions.")
@click.option("--html", "html", type=output_file, help="Write a page with distributions, a timeline and similarities.")
@click.option("--trace", "trace_to", type=output_file, help="Write a trace for ui.perfetto.dev.")
def profile(
    bundle: str | None,
    source: str | None,
    bundle_option: Path | None,
    seconds: float | None,
    windows: int | None,
    warmup: int,
    repeat: int,
    against: str | None,
    rounds: int,
    fail_over: float | None,
    engines_only: bool,
    every_window: bool,
    no_overlap: bool,
    gates: Path | None,
    part: PartOptions,
    engine_options: EngineOptions,
    as_json: bool,
    as_md: bool,
    as_csv: bool,
    html: Path | None,
    trace_to: Path | None,
) -> None:
    """Narrate SOURCE with BUNDLE and show the time of each stage, energy where it can be measured, and warnings.

    Without SOURCE, a synthetic minute with alternating 4 s of movement and rest is used, longer with --seconds or
    --windows; without BUNDLE, nano. A single argument is BUNDLE if it is a folder without images, otherwise SOURCE.

    A camera is measured until --seconds, --windows or Ctrl-C, after which all that was measured is printed.
    """
    forms = [name for name, given in (("json", as_json), ("md", as_md), ("csv", as_csv)) if given] or ["table"]
    if len(forms) > 1:
        raise click.UsageError(f"--{' and --'.join(forms)} are forms of one answer: give one of them")
    if gates is not None and every_window:
        raise click.UsageError("--every-window turns all gates off, which --gates sets: give one of them")
    limits = Limits(seconds, windows, warmup, repeat)
    directory, source = _bundle_and_source(bundle_option, bundle, source, part)
    settings = _gates(gates, directory, every_window)
    subject = Subject(directory, source, part, settings, engine_options, not no_overlap, limits)
    output = ProfileOutput(forms[0], html, trace_to, fail_over)
    if fail_over is not None and against is None:
        raise click.UsageError("--fail-over judges a comparison: give --against")
    if rounds != _ROUNDS and against is None:
        raise click.UsageError("--rounds is for a comparison: give --against")
    if source is not None and not engines_only:
        part.check(source)
    if engines_only:
        if source is not None or html is not None or trace_to is not None or every_window or gates is not None:
            raise click.UsageError("--engines-only has no source, gates, page or trace: leave them out")
        if against is not None:
            compare_engines_alone(subject, against, rounds, output)
        else:
            measure_engines(directory, engine_options, limits, output.form)
    elif against is not None:
        compare(subject, against, rounds, output)
    else:
        _measure(subject, output)


@dataclass(frozen=True)
class Limits:
    """The values of --seconds, --windows, --warmup and --repeat."""

    seconds: float | None
    windows: int | None
    warmup: int
    repeat: int

    @property
    def ends(self) -> bool:
        """Whether an endless source is read only in part."""
        return self.seconds is not None or self.windows is not None


@dataclass(frozen=True)
class Subject:
    """What is measured: a bundle on a source, and how both are used. `source` None is the synthetic one, `gates` None
    those of the bundle."""

    directory: Path
    source: str | None
    part: PartOptions
    gates: GateSettings | None
    engine_options: EngineOptions
    overlap: bool
    limits: Limits

    def open(self) -> Source:
        """Open the source; the synthetic one is as long as the limits say."""
        from vlj_edge.runtime.video.synthetic import SyntheticSource

        from ..bundle import read_manifest

        if self.source is None:
            return SyntheticSource(_ENDLESS if self.limits.ends else 60.0)
        opened = self.part.open(self.source, read_manifest(self.directory).clip)
        if self.limits.repeat > 1 and not opened.rereadable and not opened.live:
            opened.close()
            raise click.UsageError(f"--repeat reads a source several times, and {opened.shown} can be read once")
        return opened


def _measure(subject: Subject, output: ProfileOutput) -> None:
    """Measure one bundle and write what was measured, also after Ctrl-C or where the source breaks off."""
    from vlj_edge.runtime.profiling.probe import Probe
    from vlj_edge.runtime.profiling.profile import Measurement

    from .interrupts import finishing

    limits, probe = subject.limits, Probe()
    with load_model(subject.directory, subject.engine_options, probe=probe, overlap=subject.overlap) as model:
        measurement = Measurement(model, probe, gates=subject.gates, command=command_line())
        threshold = (subject.gates or model.manifest.gates).meaning.speak_below

        def write() -> None:
            if measurement.windows or measurement.complete:
                output.write(measurement.profile(), probe, threshold)

        with subject.open() as opened, finishing(write):
            measurement.warm_up(limits.warmup)
            measurement.read(opened, limits.seconds, limits.windows, _progress(limits))
            for _ in range(limits.repeat - 1):
                measurement.read(subject.open(), limits.seconds, limits.windows, _progress(limits))


def _progress(limits: Limits) -> Callable[[Run[Any], Source], AbstractContextManager[None]]:
    """Return what shows how far a pass is."""
    from .progress import counting, progress

    def shown(run: Run[Any], source: Source) -> AbstractContextManager[None]:
        if source.live and not limits.ends and not isinstance(source, LiveUntil):
            tell(f"measuring {source.shown} until Ctrl-C: --seconds or --windows end it")
        return counting(run) if source.live or not source.duration or limits.ends else progress(run, source)

    from vlj_edge.runtime.video.part import LiveUntil

    return shown


def _gates(path: Path | None, bundle: Path, every_window: bool) -> GateSettings | None:
    """Return the gates of a file, or none at all; None for those of each bundle."""
    from ..bundle import NO_GATES, read_manifest
    from ..bundle.gate_profile import gates_of_file

    if every_window:
        return NO_GATES
    if path is None:
        return None
    manifest = read_manifest(bundle)
    return gates_of_file(path, manifest.gates, manifest)


def _bundle_and_source(
    bundle: Path | None, first: str | None, second: str | None, part: PartOptions
) -> tuple[Path, str | None]:
    """Return the bundle and the source that --bundle and the arguments name.

    Raises:
        click.UsageError: options for a part of a source were given without a source, or two bundles were named.
    """
    from vlj_edge.runtime.video.recordings.folders import has_images

    from ..bundle import nano_bundle

    if bundle is not None:
        if second is not None:
            raise click.UsageError(f"--bundle {bundle} is the bundle: give it or the first argument")
        directory, source = bundle, first
    elif second is None and first is not None and (not Path(first).is_dir() or has_images(Path(first))):
        directory, source = nano_bundle(), first
    else:
        directory, source = Path(first) if first is not None else nano_bundle(), second
    if source is None and part != PartOptions():
        raise click.UsageError("options of a source, such as --duration, need a SOURCE")
    return directory, source
