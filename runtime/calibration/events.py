"""Annotations of a recording: what happens in it and when, from JSON, SRT, WebVTT or CSV.

JSON: {"seconds": 251.0, "events": [{"start": 1.5, "end": 4.0, "captions": ["a parcel is delivered", ...]}, ...]}, in
seconds from the start of the source; `seconds` and further fields are ignored. Of subtitles every cue is an event, and
each of its lines a caption. CSV has the columns start, end and captions, with | between these.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from vlj_edge.errors import VljEdgeError
from vlj_edge.regular_file import MOST_TEXT
from vlj_edge.schema import parse
from vlj_edge.tables import TableError, csv_lines, table_text
from vlj_edge.time_text import HOW, seconds_of

_CLOCK = r"(?:(\d+):)?(\d{1,2}):(\d{1,2}[.,]\d{1,3})"
_CUE = re.compile(rf"^\s*{_CLOCK}\s*-->\s*{_CLOCK}[^\n]*\n((?:[^\n]*\S[^\n]*(?:\n|\Z))*)", re.MULTILINE)
_COLUMNS = ("start", "end", "captions")
_REMEDY = "give JSON with events, SRT, WebVTT or CSV (docs/gates.md)"


@dataclass(frozen=True)
class AnnotatedEvent:
    """Something that happens, from `start` to `end` in seconds; each of its captions is right."""

    start: float
    end: float
    captions: tuple[str, ...]


@dataclass(frozen=True)
class _Annotations:
    events: tuple[AnnotatedEvent, ...]


def read_events(path: Path) -> list[AnnotatedEvent]:
    """Read annotations; their kind is found out by their content, that of CSV by its name.

    Returns:
        The events in the order of their starts.

    Raises:
        VljEdgeError: the file cannot be read or holds none, or an event ends before it starts or has no caption.
    """
    text = table_text(path, _REMEDY, MOST_TEXT)
    try:
        cues = [_event(*match.groups()) for match in _CUE.finditer(text)]
        is_table = path.suffix.lower() in (".csv", ".tsv")
        found = cues or (_rows(text) if is_table else _events_of(json.loads(text)))
        _check(found)
    except (ValueError, OverflowError, RecursionError) as error:  # not JSON, of another form, or endless
        problem = error.named if isinstance(error, TableError) else error
        raise VljEdgeError(f"{path} holds no annotations ({problem}): {_REMEDY}") from error
    return sorted(found, key=lambda event: event.start)


def _events_of(raw: object) -> list[AnnotatedEvent]:
    if isinstance(raw, list):
        raise ValueError('it is a list: write {"events": [...]} around it')
    return list(parse(_Annotations, raw, ignore_unknown=True).events)


def _rows(text: str) -> list[AnnotatedEvent]:
    found = []
    for line, cells in csv_lines(text, _COLUMNS, _COLUMNS, ("start", "end")):
        start, end = (seconds_of(cells.get(name, "")) for name in ("start", "end"))
        if start is None or end is None:
            raise TableError(line, f"its start or end is no time: {HOW}")
        captions = (caption.strip() for caption in cells.get("captions", "").split("|"))
        found.append(AnnotatedEvent(start, end, tuple(caption for caption in captions if caption)))
    return found


def _event(*parts: str | None) -> AnnotatedEvent:
    first, second = (_seconds(*parts[index : index + 3]) for index in (0, 3))
    lines = (line.strip() for line in (parts[6] or "").split("\n"))
    return AnnotatedEvent(first, second, tuple(line for line in lines if line))


def _seconds(hours: str | None, minutes: str | None, seconds: str | None) -> float:
    return 3600 * int(hours or 0) + 60 * int(minutes or 0) + float((seconds or "0").replace(",", "."))


def _check(events: list[AnnotatedEvent]) -> None:
    if not events:
        raise ValueError("it has no events")
    for number, event in enumerate(events, 1):
        if not 0 <= event.start < event.end:
            raise ValueError(f"event {number} goes from {event.start:g} s to {event.end:g} s")
        if not any(caption.strip() for caption in event.captions):
            raise ValueError(f"event {number}, at {event.start:g} s, has no caption")
