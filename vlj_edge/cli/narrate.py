"""vlj-edge narrate: print what happens in one or several sources, with times."""

from __future__ import annotations

import shlex
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from .batch import FORMATS, Output, narrate_videos, stands_for_videos, videos_of
from .budget_options import BudgetOptions, budget_options
from .narrate_output import format_counts, format_totals, require_answers
from .options import SOURCE, EngineOptions, bundle_option, engine_options, gates_option, load_model, query_option
from .outputs import output_file, output_folder, results_file
from .part_options import PartOptions, part_options, print_state
from .progress import progress
from .record import Recorded, film_path
from .say import say, tell
from .sink_options import check_sinks, opened_sinks, sink_options
from .source_names import name_and_uri, parse_sources
from .words_options import words_options, words_settings

if TYPE_CHECKING:
    from vlj_edge.runtime.model import Model
    from vlj_edge.runtime.service.settings import SourceSettings
    from vlj_edge.runtime.sinks.base import Event
    from vlj_edge.runtime.sinks.queue import SinkQueue
    from vlj_edge.runtime.sinks.subtitles import SubtitleWriter
    from vlj_edge.runtime.stream.run import Run
    from vlj_edge.runtime.video.source import Source

    from ..bundle import BudgetSettings
    from ..results import Narration


class _Files(NamedTuple):
    """Output files that exist only for the narration of one source."""

    srt: Path | None
    vtt: Path | None
    record: Path | None


@click.command(short_help="Print what happens in a video or camera, when it changes.", epilog=SOURCE)
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True)
@bundle_option
@query_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line: the narrations, then the totals.")
@click.option("--srt", type=output_file, help="Also write SRT subtitles to this file.")
@click.option("--vtt", type=output_file, help="Also write WebVTT subtitles to this file.")
@click.option(
    "--record",
    type=output_file,
    callback=lambda context, parameter, path: film_path(path),
    help="Also write the video with its texts and sound to this MP4; for a camera, one file a minute: NAME-0001.mp4.",
)
@click.option(
    "--out",
    type=output_folder,
    help="Narrate several videos, or folders of them, one after the other, each into a file in this folder.",
)
@click.option(
    "--format", "kind", type=click.Choice(FORMATS), default="srt", show_default=True, help="Of the files in --out."
)
@click.option("--overwrite", is_flag=True, help="Replace files in --out that exist.")
@part_options
@sink_options
@gates_option
@engine_options
@budget_options
@words_options
@click.option("--every-window", is_flag=True, help="Turn all gates off: encode and decode every window.")
@click.option(
    "--explain", is_flag=True, help="Print for every window what each gate decided, and on which numbers, on stderr."
)
def narrate(
    sources: tuple[str, ...],
    bundle: Path | None,
    query: str | None,
    as_json: bool,
    srt: Path | None,
    vtt: Path | None,
    record: Path | None,
    out: Path | None,
    kind: str,
    overwrite: bool,
    part: PartOptions,
    gates: Path | None,
    engine_options: EngineOptions,
    budget: BudgetOptions,
    words: dict[str, Any],
    every_window: bool,
    explain: bool,
    **sink_options: Any,
) -> None:
    """Print what happens in SOURCE whenever it changes. A line shows when that began, in seconds from the start of
    SOURCE; --json also shows the window that it describes, and prints what --explain does as objects.

    Several sources, as NAME=SOURCE, take turns; with --out, several videos and folders of videos are narrated one after
    the other.
    """
    several = len(sources) > 1 and out is None
    if (several or out is not None) and (srt or vtt or record):
        raise click.UsageError("--srt, --vtt and --record are for one source: give --out for several")
    if (several or out is not None) and explain:
        raise click.UsageError("--explain is for one source")
    if several and every_window:
        raise click.UsageError("--every-window is for one source, or with --out")
    if every_window and (budget.given or gates is not None):
        raise click.UsageError("--every-window leaves nothing out, and gates and a budget do: leave one of them out")
    if out is None and (overwrite or kind != "srt"):
        raise click.UsageError("--format and --overwrite are for the files in --out: give it")
    if out is not None and as_json:
        raise click.UsageError("--json is for stdout: give --format json for the files in --out")
    if out is None and not several and stands_for_videos(sources[0]):
        raise click.UsageError(f"{sources[0]} stands for several videos: give --out, a folder for their texts")
    if record is not None and record.suffix.lower() not in ("", ".mp4"):
        raise click.UsageError(f"--record writes MP4: call the file {record.with_suffix('.mp4')}")
    asked = words_settings(words)
    videos = _checked(sources, out, part, sink_options)
    with load_model(bundle, engine_options, gates=gates) as model, opened_sinks(**sink_options) as sinks:
        in_use = budget.applied_to(model.manifest.gates)
        settings: dict[str, Any] = {"query": query, "every_window": every_window, "gates": in_use}
        if out is not None:
            settings |= {} if asked is None else {"words": asked.words()}
            narrate_videos(model, videos, Output(out, kind, overwrite), part, sinks, **settings)
        elif several:
            several_sources = [replace(each, gates=in_use, words=asked) for each in parse_sources(sources, query, part)]
            _narrate_several(model, several_sources, as_json, sinks)
        else:
            name, uri = name_and_uri(sources[0])
            settings |= _printers(name, as_json) if explain else {}
            settings |= {} if asked is None else {"words": asked.words(name)}
            files = _Files(srt, vtt, record)
            _narrate_one(model, name, uri, part, settings, as_json, files, sinks)


def _checked(sources: tuple[str, ...], out: Path | None, part: PartOptions, sinks: dict[str, Any]) -> list[Path]:
    """Check sinks and one source before a model is opened; of several, one may be missing. Return the videos of
    --out."""
    check_sinks(sinks["log"], sinks["log_bytes"])
    if out is not None:
        return videos_of(sources)
    if len(sources) == 1:
        part.check(name_and_uri(sources[0])[1])
    return []


def _printers(name: str, as_json: bool) -> dict[str, Any]:
    """Return the arguments of Model.narrate() that explain each window and text."""
    from ..decision_words import text_line, window_as_dict, window_line
    from ..json_text import json_text

    if not as_json:
        return {
            "watch": lambda report: tell(window_line(report)),
            "watch_texts": lambda report: tell(text_line(report)),
        }
    return {
        "watch": lambda report: say(json_text({"window": {"source": name} | window_as_dict(report)})),
        "watch_texts": lambda report: say(json_text({"memory": {"source": name} | report.as_dict()})),
    }


def _narrate_one(
    model: Model,
    name: str,
    uri: str,
    part: PartOptions,
    settings: dict[str, Any],
    as_json: bool,
    files: _Files,
    sinks: list[SinkQueue],
) -> None:
    from vlj_edge.runtime.sinks.subtitles import SrtWriter, VttWriter

    from ..errors import VljEdgeError

    recording = files.record is not None  # a recorded video contains every frame
    source = part.open(uri, model.manifest.clip, recording, on_state=partial(print_state, name))
    with ExitStack() as cleanup:
        cleanup.callback(source.close)
        recorded = None
        if files.record is not None:
            again = partial(part.open, uri, model.manifest.clip, every_frame=True)
            recorded = Recorded(source, again, files.record, cleanup)
            source = recorded.source
            sinks += recorded.sinks
        run = model.narrate(source, **settings)
        cleanup.callback(run.close)
        if not settings["every_window"]:
            _say_if_default_gates(model, uri)
        subtitles = [
            writer(cleanup.enter_context(results_file(path, source.live)))
            for path, writer in ((files.srt, SrtWriter), (files.vtt, VttWriter))
            if path is not None
        ]
        narrations: list[Narration] = []
        try:
            with progress(run, source):
                _write_narrations(run, name, source, as_json, settings["gates"].budget, subtitles, sinks, narrations)
        except VljEdgeError:
            if recorded is not None and source.incomplete is not None:  # the part that was read is written too
                recorded.finish(narrations)
            raise
        if recorded is not None:
            recorded.finish(narrations)
        require_answers([(run.totals.calls, run.totals.calls_failed)])


def _say_if_default_gates(model: Model, source: str) -> None:
    if model.manifest.has_default_gates:
        command = (
            f"vlj-edge calibrate {shlex.quote(source)} --bundle {shlex.quote(str(model.directory))} --out gates.json"
        )
        tell(f"the gates are defaults, which nothing was calibrated for: {command} finds some, for --gates")


def _write_narrations(
    run: Run[Narration],
    name: str,
    source: Source,
    as_json: bool,
    budget: BudgetSettings,
    subtitles: Sequence[SubtitleWriter],
    sinks: list[SinkQueue],
    narrations: list[Narration],
) -> None:
    """Write the narrations of a run to stdout, subtitles, sinks and the list; then its totals, even after Ctrl-C."""
    from vlj_edge.runtime.sinks.base import Event
    from vlj_edge.runtime.sinks.console import JsonEvents, plain_line

    from .interrupts import interrupts_deferred

    lines = JsonEvents(say)
    try:
        for number, narration in enumerate(run, 1):
            with interrupts_deferred():
                event = Event(name, narration, time.time(), number)
                if as_json:
                    lines.add(event, run.live)
                else:
                    say(plain_line(narration))
                narrations.append(narration)
                for writer in subtitles:
                    writer.add(narration)
                for sink in sinks:
                    sink.put(event)
    finally:
        with interrupts_deferred():
            for writer in subtitles:
                writer.finish(run.totals.video_end)
            lines.finish(name, run.totals.video_end)
            say(format_totals(name, run.totals, source, as_json, budget))


def _narrate_several(model: Model, sources: list[SourceSettings], as_json: bool, sinks: list[SinkQueue]) -> None:
    from vlj_edge.runtime.service.station import Station
    from vlj_edge.runtime.sinks.console import JsonEvents, plain_line

    from ..errors import VljEdgeError

    width = max(len(source.name) for source in sources)
    printing = threading.Lock()  # each source has its own thread
    lines = JsonEvents(say)

    def print_event(event: Event) -> None:
        with printing:
            if as_json:
                lines.add(event, station.channels[event.source].live)
            else:
                say(f"{event.source:{width}}  {plain_line(event.narration)}")

    def print_error(name: str, error: str) -> None:
        tell(f"warning: {name}: {error}")

    station = Station(model, sources, sinks, on_event=print_event, on_error=print_error)
    calls: list[tuple[int, int]] = []
    try:
        station.start()
        _say_if_default_gates(model, "SOURCE")
        station.wait()
    finally:
        station.stop()
        for name, channel in station.channels.items():
            counts = channel.counts()
            calls.append((counts["calls"], counts["calls_failed"]))
            lines.finish(name, counts["video_end"])
            say(format_counts(name, counts, as_json, (channel.settings.gates or model.manifest.gates).budget))
    failed = sum(channel.error is not None for channel in station.channels.values())
    if failed:
        raise VljEdgeError(f"{failed} of {len(sources)} sources could not be narrated completely: see above")
    require_answers(calls)
