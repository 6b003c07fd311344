"""vlj-edge narrate: sources in, lines of time and text out."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import EngineOptions, bundle_option, engine_options, load_model
from .sink_options import open_outlets, tell_missed, with_outlets

if TYPE_CHECKING:
    from vlj_edge.runtime.model import Model
    from vlj_edge.runtime.service.channel import SourceSettings
    from vlj_edge.runtime.sinks.base import Event
    from vlj_edge.runtime.sinks.queue import SinkQueue
    from vlj_edge.runtime.sinks.video import AnnotatedVideo
    from vlj_edge.runtime.video.source import Source

    from ..results import Totals

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True)
@bundle_option
@click.option("--query", help="What the model is asked; the bundle's own question when not named.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line: the texts, then the totals.")
@click.option("--srt", type=_FILE, help="Write subtitles to this file as well.")
@click.option("--vtt", type=_FILE, help="The same as WebVTT.")
@click.option("--record", type=_FILE, help="Write the video with its texts in it, in parts of a minute: NAME-0001.mp4.")
@with_outlets
@engine_options
@click.option("--every-window", is_flag=True, help="Decode every window with all gates off: the baseline.")
def narrate(
    sources: tuple[str, ...],
    bundle: Path | None,
    query: str | None,
    as_json: bool,
    srt: Path | None,
    vtt: Path | None,
    record: Path | None,
    engine_options: EngineOptions,
    every_window: bool,
    **outlets: Any,
) -> None:
    """Say what happens in SOURCE, when it changes.

    SOURCE is a video file, a folder of images, a camera (0, /dev/video0, v4l2:///dev/video0, csi://0), a stream
    (rtsp://, http://), or - for JPEGs on stdin. Several, as NAME=SOURCE, take turns.
    """
    several = len(sources) > 1
    if several and (srt or vtt or record or every_window):
        raise click.UsageError("--srt, --vtt, --record and --every-window are for one source")
    for name, path in (("--srt", srt), ("--vtt", vtt), ("--log", outlets["log"])):
        _spare(sources, name, path)
    model = load_model(bundle, engine_options)
    with _opened(outlets) as opened:
        if several:
            _narrate_all(model, named(sources, query), as_json, opened)
        else:
            _narrate_one(model, sources[0], query, as_json, srt, vtt, record, every_window, opened)


def _narrate_one(
    model: Model,
    uri: str,
    query: str | None,
    as_json: bool,
    srt: Path | None,
    vtt: Path | None,
    record: Path | None,
    every_window: bool,
    outlets: list[SinkQueue],
) -> None:
    from vlj_edge.runtime.sinks.base import Event
    from vlj_edge.runtime.sinks.console import json_line, plain_line
    from vlj_edge.runtime.sinks.files import SrtWriter, VttFile
    from vlj_edge.runtime.sinks.queue import SinkQueue
    from vlj_edge.runtime.video.uri import open_source

    from ..errors import without_credentials
    from .interrupts import held_back

    name = without_credentials(uri)
    source = open_source(uri, model.manifest.clip.frames_per_second, on_state=lambda state: _tell(name, state))
    with ExitStack() as cleanup:
        cleanup.callback(source.close)
        if record is not None:
            source, film = _recorded(source, record)
            cleanup.callback(film.close)
            outlets.append(SinkQueue("record", film))
        narrations = model.narrate(source, query=query, every_window=every_window)
        cleanup.callback(narrations.close)
        if vtt is not None:
            outlets.append(SinkQueue("vtt", VttFile(vtt), retry=True))
        subtitles = SrtWriter(cleanup.enter_context(srt.open("w", encoding="utf-8"))) if srt else None
        try:
            for number, narration in enumerate(narrations, 1):
                with held_back():
                    click.echo(json_line(narration) if as_json else plain_line(narration))
                    if subtitles:
                        subtitles.add(narration)
                    for outlet in outlets:
                        outlet.put(Event(name, narration, time.time(), number))
        finally:  # also after Ctrl-C or a source that broke off
            with held_back():
                if subtitles:
                    subtitles.finish(narrations.totals.video_seconds)
                click.echo(_totals_json(narrations.totals) if as_json else _totals_line(narrations.totals))


def _narrate_all(model: Model, sources: list[SourceSettings], as_json: bool, outlets: list[SinkQueue]) -> None:
    from vlj_edge.runtime.service.station import Station
    from vlj_edge.runtime.sinks.console import plain_line

    from ..errors import VljEdgeError

    width = max(len(wanted.name) for wanted in sources)
    printing = threading.Lock()  # each source has a thread of its own

    def show(event: Event) -> None:
        line = f"{event.source:{width}}  {plain_line(event.narration)}"
        with printing:
            click.echo(json.dumps(event.as_dict(), ensure_ascii=False) if as_json else line)

    station = Station(model, sources, outlets, heard=show)
    try:
        station.start()
        station.wait()
    finally:
        station.stop()
        for channel in station.channels.values():
            counts = {"source": channel.wanted.name} | channel.counts()
            click.echo(json.dumps({"totals": counts}) if as_json else _counts_line(channel.wanted.name, counts))
    failed = [channel for channel in station.channels.values() if channel.error is not None]
    for channel in failed:
        click.echo(f"warning: {channel.wanted.name}: {channel.error}", err=True)
    if failed:
        raise VljEdgeError(f"{len(failed)} of {len(sources)} sources could not be narrated to their end: see above")


def named(sources: tuple[str, ...], query: str | None) -> list[SourceSettings]:
    """NAME=SOURCE, or the source alone, which is then its name as far as it may be shown."""
    from vlj_edge.runtime.service.channel import SourceSettings

    from ..errors import without_credentials

    found = []
    for given in sources:
        name, mark, uri = given.partition("=")
        plain = not mark or any(
            c in name for c in "/:?."
        )  # a=b.mp4 has a name; rtsp://host/?a=b and ./a=b.mp4 have none
        found.append(
            SourceSettings(without_credentials(given), given, query) if plain else SourceSettings(name, uri, query)
        )
    return found


def _spare(sources: tuple[str, ...], option: str, path: Path | None) -> None:
    from ..errors import VljEdgeError

    for source in sources:
        if path and path.exists() and Path(source).exists() and path.samefile(source):
            raise VljEdgeError(
                f"{option} {path} is what is to be narrated, and would be overwritten: name another file"
            )


@contextmanager
def _opened(outlets: dict[str, Any]) -> Iterator[list[SinkQueue]]:
    opened = open_outlets(**outlets)
    try:
        yield opened
    finally:
        for outlet in opened:
            outlet.close()
        tell_missed(opened)


def _recorded(source: Source, path: Path) -> tuple[Source, AnnotatedVideo]:
    from vlj_edge.runtime.sinks.video import AnnotatedVideo, Filmed

    film = AnnotatedVideo(path, source.period)
    return Filmed(source, film), film


def _tell(name: str, state: str) -> None:
    lines = {"lost": "gives no picture, trying again", "live": "is there"}
    if state in lines:
        click.echo(f"{name} {lines[state]}", err=True)


def _totals_json(totals: Totals) -> str:
    return json.dumps({"totals": totals.as_dict()})


def _totals_line(totals: Totals) -> str:
    saved = f"{totals.decodes_saved:.1f}x fewer than" if totals.decoder_runs else "against"
    return (
        f"{totals.windows} windows, {totals.encoder_runs} encoder runs, {totals.decoder_runs} decoder runs"
        f" ({saved} decoding every window), {totals.video_seconds:.1f} s of video"
        f" at {totals.real_time_factor:.1f}x real time"
    )


def _counts_line(name: str, counts: dict[str, Any]) -> str:
    return (
        f"{name}: {counts['windows']} windows ({counts['windows_dropped']} dropped), {counts['encoder_runs']} encoder"
        f" runs, {counts['decoder_runs']} decoder runs, {counts['video_seconds']:.1f} s of video"
    )
