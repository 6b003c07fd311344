"""vlj-edge alerts: try the alerts of a configuration without waiting for what they tell of."""

from __future__ import annotations

import difflib
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import SourceBrokeOff, VljEdgeError, WrongCall
from ..time_text import HOW, seconds_of, time_text
from .alerts_output import print_trial
from .options import (
    SOURCE,
    EngineOptions,
    bundle_option,
    engine_options,
    file_type,
    load_model,
    query_option,
    use_key_file_of,
)
from .part_options import PartOptions, part_options
from .say import tell, tell_once

if TYPE_CHECKING:
    from vlj_edge.runtime.alerts.settings import Alert
    from vlj_edge.runtime.alerts.trial import Mark
    from vlj_edge.runtime.service.config import Config

_Marks = dict[str, "list[Mark]"]  # by the alert's name
_SPARE = 1.0  # seconds that a mark may reach beyond the first and the last window
_MISSPELLED = 0.8  # of difflib: from there on a name of a camera stands for another that is there
_COLUMNS = ("alert", "start", "end", "right")


@click.group(short_help="Try the alerts of a configuration on a recording.")
def alerts() -> None:
    """Try alerts: sentences about which vlj-edge serve tells when they become true."""


@alerts.command(name="test", short_help="Say when the alerts of a configuration would have fired.", epilog=SOURCE)
@click.argument("source")
@click.option("--config", type=file_type, required=True, help="TOML file of vlj-edge serve, with [[alert]].")
@click.option("--alert", "only", help="Try the alert of this name alone.")
@click.option("--right", multiple=True, metavar="FROM-TO", help="Part in which the alert is right, such as 0:10-0:20.")
@click.option(
    "--wrong", multiple=True, metavar="FROM-TO", help="Part in which it is wrong; else all that is not right."
)
@click.option("--marks", type=file_type, help="CSV file with the columns alert, start, end, right (yes or no).")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object an alert.")
@bundle_option
@query_option
@part_options
@engine_options
def test(
    source: str,
    config: Path,
    only: str | None,
    right: tuple[str, ...],
    wrong: tuple[str, ...],
    marks: Path | None,
    as_json: bool,
    bundle: Path | None,
    query: str | None,
    part: PartOptions,
    engine_options: EngineOptions,
) -> None:
    """Say when each alert of a configuration would have fired in SOURCE, a recording, and plot its score.

    The score counts from `above` on, for as long as `for` says; at the end of an event its highest is shown. From parts
    that are marked right or wrong a threshold is suggested, for `above`. Cameras, quiet hours and confirm of
    an alert do not count here.
    """
    from vlj_edge.runtime.alerts.score import make_scorer
    from vlj_edge.runtime.alerts.trial import score_all
    from vlj_edge.runtime.service.config import read_config

    file = read_config(config)
    _check_cameras(file)
    chosen = _chosen(config, file, only)
    marked = _marks(chosen, right, wrong, marks)
    query = query or file.options.get("query")
    part.check(source)
    broken = None
    with load_model(bundle or _bundle(file), _as_served(engine_options, file)) as model:
        scorers = [make_scorer(model, alert, query) for alert in chosen]
        with part.open(source, model.manifest.clip) as opened:
            if opened.live:
                raise WrongCall(f"{opened.shown} is live and has no end: record a part of it and name that")
            items: list[Any] = []
            with model.embed(opened, query) as run:
                try:
                    items.extend(run)
                except SourceBrokeOff as error:
                    broken = error
        tell_once(model.manifest.labels.caveat)
        scored = score_all(items, scorers)
    if items and broken is None:
        _check_inside(marked, items[0].window.start, items[-1].window.end)
    for alert, windows in zip(chosen, scored, strict=True):
        print_trial(alert, windows, marked.get(alert.name, []), as_json)
    if broken is not None:
        raise broken
    if not items:
        raise VljEdgeError(f"{source} has no window to look at: give a longer video")


def _check_cameras(file: Config) -> None:
    """Refuse cameras of alerts that are misspelled sources of the file; others may be of serve's command line."""
    known = file.source_names
    for camera, where in file.cameras_besides(known) if known else ():
        near = difflib.get_close_matches(camera, known, 1, _MISSPELLED)
        if near and not _numbered(camera, near[0]):
            raise VljEdgeError(f"{where}: name {near[0]}")
        tell(f"note: {where}: call vlj-edge serve with {camera}=SOURCE, or add a [[source]]")


def _numbered(one: str, other: str) -> bool:
    """Return whether two names differ in their numbers alone."""
    return re.sub("[0-9]", "", one) == re.sub("[0-9]", "", other)


def _as_served(given: EngineOptions, file: Config) -> EngineOptions:
    """Return the options of the command line, or where they are not given those of the configuration."""
    from ..bundle.signature import KEY_FILE

    options = file.options
    if "key_file" in options and KEY_FILE not in os.environ:
        use_key_file_of(file.place("key_file"), options["key_file"])
    engines = Path(options["engines"]) if "engines" in options else None
    if given.chooses:  # --backend on a desk, in place of the engines of a board
        return given
    return replace(given, backend=options.get("backend"), engines=engines, threads=options.get("threads"))


def _bundle(file: Config) -> Path | None:
    return Path(file.options["bundle"]) if "bundle" in file.options else None


def _chosen(config: Path, file: Config, only: str | None) -> list[Alert]:
    if not file.alerts:
        raise VljEdgeError(f"{config} has no alert: write an [[alert]] with a name and a text (docs/alerts.md)")
    chosen = [alert for alert in file.alerts if only in (None, alert.name)]
    if not chosen:
        raise WrongCall(f"{config} has no alert '{only}': it has {', '.join(alert.name for alert in file.alerts)}")
    return chosen


def _marks(chosen: list[Alert], right: tuple[str, ...], wrong: tuple[str, ...], file: Path | None) -> _Marks:
    from vlj_edge.runtime.alerts.trial import Mark

    if (right or wrong) and len(chosen) > 1:
        raise click.UsageError("--right and --wrong are for one alert: name it with --alert")
    found = {} if file is None else _read_marks(file)
    for name in found.keys() - {alert.name for alert in chosen}:
        tell(f"warning: {file} marks the alert '{name}', which is not tried")
    for texts, is_right in ((right, True), (wrong, False)):
        for text in texts:
            start, _, end = text.partition("-")
            span = _span(start, end, f"'{text}'", WrongCall)
            found.setdefault(chosen[0].name, []).append(Mark(*span, is_right, f"'{text}'"))
    for name, each in found.items():
        if not any(mark.right for mark in each):
            raise click.UsageError(f"nothing is marked as right for '{name}': add --right FROM-TO")
    return found


def _check_inside(marked: _Marks, start: float, end: float) -> None:
    """Refuse marks of what was not looked at: from `start` to `end`, seconds."""
    for mark in (mark for marks in marked.values() for mark in marks):
        if mark.start < start - _SPARE or mark.end > end + _SPARE or mark.start >= end:
            looked = f"which is looked at from {time_text(start)} to {time_text(end)}"
            raise VljEdgeError(f"{mark.where} lies outside the recording, {looked}: mark a part of that")


def _read_marks(path: Path) -> _Marks:
    from vlj_edge.runtime.alerts.trial import Mark

    from ..regular_file import MOST_TEXT
    from ..tables import TableError, csv_lines, table_text

    found: _Marks = {}
    text = table_text(path, "give a CSV file of marks in UTF-8", MOST_TEXT)
    try:
        for line, row in csv_lines(text, _COLUMNS, _COLUMNS, ("start", "end")):
            where, answer = f"{path}, line {line}", row.get("right", "").strip().lower()
            if answer not in ("yes", "no") or not row.get("alert"):
                raise VljEdgeError(f"{where}, says neither yes nor no, or no alert: write yes or no under right")
            span = _span(row.get("start", ""), row.get("end", ""), where)
            found.setdefault(row["alert"].strip(), []).append(Mark(*span, answer == "yes", where))
    except TableError as error:
        raise VljEdgeError(f"{path}, line {error.line}: {error}: give it {', '.join(_COLUMNS)}") from error
    if not found:
        raise VljEdgeError(f"{path} holds no marks: give it the columns {', '.join(_COLUMNS)}, and a line for each")
    return found


def _span(start: str, end: str, where: str, wrong: type[VljEdgeError] = VljEdgeError) -> tuple[float, float]:
    first, last = seconds_of(start), seconds_of(end)
    if first is None or last is None or last <= first:
        raise wrong(f"{where} is no part of a recording: give a start and a later end; {HOW}")
    return first, last
