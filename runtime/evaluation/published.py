"""Annotation files as their owners publish them, without changes: MSR-VTT, Something-Something v2, Kinetics, Ego-Exo4D.

| file | known by | videos |
|---|---|---|
| MSR-VTT, .json | videos and sentences | video0.mp4 |
| MSR-VTT's 1000 test pairs, .csv | columns video_id, sentence | video9770.mp4 |
| Something-Something v2, .json | a list with id and template | 78687.webm |
| Kinetics, .csv | columns label, youtube_id, time_start, time_end | ID_000059_000069.mp4; or ID.mp4, the whole video |
| Ego-Exo4D's atomic descriptions, .json | annotations | see ego_exo.py |
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from vlj_edge.errors import VljEdgeError
from vlj_edge.schema import Range, parse
from vlj_edge.tables import TableError, columns, csv_lines, table_text

from ..video.recordings.folders import find_videos
from .ego_exo import read_ego_exo
from .tables import REMEDY, Row


@dataclass(frozen=True)
class Published:
    """The annotations of the videos that are there.

    Attributes:
        classes: all classes of the file, also those without a video; empty if its texts are captions.
        missing: how many of the videos that the file describes are not there.
    """

    rows: tuple[Row, ...]
    classes: tuple[str, ...]
    missing: int


@dataclass(frozen=True)
class _Entry:
    """A text and its video: the file of that name, without suffix, or a part of the one named `whole`."""

    name: str
    text: str
    whole: str | None = None
    start: float = 0.0
    end: float | None = None


def read_published(path: Path, videos: Path) -> Published | None:
    """Read a published file; None if it is none of those above.

    Args:
        videos: the folder in or below which the videos lie.

    Raises:
        VljEdgeError: the file cannot be read or is damaged, or none of its videos is there.
    """
    try:
        if path.suffix.lower() == ".json":
            raw = json.loads(table_text(path, REMEDY))
            if isinstance(raw, dict) and "annotations" in raw:
                return _descriptions(path, raw, videos)
            found = _json_entries(raw)
        else:
            found = _csv_entries(path)
    except (ValueError, RecursionError) as error:
        problem = error.named if isinstance(error, TableError) else error
        raise VljEdgeError(f"{path} holds no annotations ({problem}): give the file as it was published") from error
    if found is None:
        return None
    entries, are_classes = found
    there = {video.stem: video for video in find_videos([videos])}
    rows = [row for row in (_row(entry, there) for entry in entries) if row is not None]
    if not rows:
        raise VljEdgeError(f"none of the videos of {path} is in {videos}, such as {entries[0].name}: name their folder")
    classes = tuple(dict.fromkeys(entry.text for entry in entries)) if are_classes else ()
    missing = len({entry.name for entry in entries}) - len({(row.video, row.start) for row in rows})
    return Published(tuple(rows), classes, missing)


def _descriptions(path: Path, raw: object, videos: Path) -> Published:
    rows, missing = read_ego_exo(path, raw, videos, find_videos([videos]))
    if not rows:
        raise VljEdgeError(
            f"none of the takes of {path} is in {videos}: name the folder that holds takes.json and takes"
        )
    return Published(tuple(rows), (), missing)


def _row(entry: _Entry, there: dict[str, Path]) -> Row | None:
    if entry.name in there:
        return Row(there[entry.name], text=entry.text)
    if entry.whole in there:
        return Row(there[entry.whole], entry.start, entry.end, entry.text)
    return None


@dataclass(frozen=True)
class _Sentence:
    video_id: str
    caption: str


@dataclass(frozen=True)
class _MsrVtt:
    sentences: tuple[_Sentence, ...]


@dataclass(frozen=True)
class _Something:
    id: str
    template: str


def _json_entries(raw: object) -> tuple[list[_Entry], bool] | None:
    if isinstance(raw, list):
        entries = [
            _Entry(each.id, _template(each.template))
            for each in parse(tuple[_Something, ...], raw, ignore_unknown=True)
        ]
    else:
        sentences = parse(_MsrVtt, raw, ignore_unknown=True).sentences
        entries = [_Entry(each.video_id, each.caption) for each in sentences]
    return _filled(entries), isinstance(raw, list)


def _template(text: str) -> str:
    return text.replace("[", "").replace("]", "")


@dataclass(frozen=True)
class _Times:
    time_start: Annotated[float, Range(at_least=0)]
    time_end: Annotated[float, Range(above=0)]


_PAIRS = ("video_id", "sentence")  # MSR-VTT's
_KINETICS = ("label", "youtube_id", "time_start", "time_end")


def _csv_entries(path: Path) -> tuple[list[_Entry], bool] | None:
    text = table_text(path, REMEDY)
    for wanted, is_kinetics in ((_PAIRS, False), (_KINETICS, True)):
        if set(wanted) <= set(columns(text, wanted)):
            rows = csv_lines(text, wanted, wanted, ("time_start", "time_end"))
            entries = [_kinetics(cells, line) if is_kinetics else _pair(cells) for line, cells in rows]
            return _filled(entries), is_kinetics
    return None


def _pair(cells: dict[str, str]) -> _Entry:
    return _Entry(cells.get("video_id", ""), cells.get("sentence", ""))


def _kinetics(values: dict[str, str], line: int) -> _Entry:
    try:
        times = parse(_Times, {name: float(values.get(name, "")) for name in ("time_start", "time_end")})
        if times.time_end <= times.time_start:
            raise ValueError("time_end is not after time_start")
    except ValueError as error:
        raise ValueError(f"line {line}: {error}") from error
    whole = values.get("youtube_id", "")
    name = f"{whole}_{int(times.time_start):06d}_{int(times.time_end):06d}"
    return _Entry(name, values.get("label", ""), whole, times.time_start, times.time_end)


def _filled(entries: list[_Entry]) -> list[_Entry]:
    """Return the entries with single spaces in their texts. Raises ValueError: one has no text, or there are none."""
    if not entries:
        raise ValueError("it is empty")
    for entry in entries:
        if not entry.name or not entry.text.strip():
            raise ValueError(f"'{entry.name[:40]}' has no text or there is one without a video")
    return [_Entry(each.name, " ".join(each.text.split()), each.whole, each.start, each.end) for each in entries]
