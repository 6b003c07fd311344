"""Routes for the texts of a source as files: SRT, CSV and JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Response

from vlj_edge.json_text import json_text
from vlj_edge.results import Narration

from ...sinks.base import Event
from ...sinks.subtitles import SrtWriter
from .schemas import Problem
from .state import ServerState

_NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": Problem}}
_LIST: dict[int | str, dict[str, Any]] = {
    **_NOT_FOUND,
    200: {"content": {"application/json": {"schema": {"type": "array", "items": {"type": "object"}}}}},
}
_COLUMNS = ("clock", "source", "start", "end", "event_start", "text", "origin", "id", "stand_in", "pass")


def texts(server: ServerState) -> APIRouter:
    """Return the routes for the latest texts of a source, which a browser saves as a file."""
    router = APIRouter()

    def file(name: str, kind: str, media_type: str, content: str) -> Response:
        headers = {"Content-Disposition": f'attachment; filename="texts.{kind}"'}
        return Response(content.encode("utf-8", "replace"), media_type=f"{media_type}; charset=utf-8", headers=headers)

    @router.get("/api/sources/{name:path}/texts.srt", response_class=Response, responses=_file("application/x-subrip"))
    def as_srt(name: str) -> Response:
        """The latest texts of a source as subtitles, in seconds from its start; those since its last start. A change
        has its answer, or the text that stands in for it."""
        return file(name, "srt", "application/x-subrip", _srt(_events(server, name)))

    @router.get("/api/sources/{name:path}/texts.csv", response_class=Response, responses=_file("text/csv"))
    def as_csv(name: str) -> Response:
        """The latest texts of a source as a table, the oldest first. `stand_in` marks those that stand in for an
        answer, which may follow; `pass` counts how often the source, and its times, began anew."""
        return file(name, "csv", "text/csv", _csv(name, _events(server, name)))

    @router.get("/api/sources/{name:path}/texts.json", response_class=Response, responses=_LIST)
    def as_json(name: str) -> Response:
        """The latest texts of a source as a list of events, the oldest first, with `stand_in` and `pass` as in the
        table."""
        return file(name, "json", "application/json", json_text(_dicts(name, _events(server, name))))

    return router


def _file(media_type: str) -> dict[int | str, dict[str, Any]]:
    return {200: {"content": {media_type: {"schema": {"type": "string"}}}}} | _NOT_FOUND


def _events(server: ServerState, name: str) -> list[Event]:
    server.channel(name)  # 404
    return server.broadcaster.texts_of(name)


def passes(events: Iterable[Event]) -> list[list[Event]]:
    """Return the texts of each time that the source began anew, and its times with it, in the order of their times.

    An answer may go back in time, to the change that a text has stood in for or that nothing was said about; answers
    come in order, and so do all other texts.
    """
    found: list[list[Event]] = []
    waiting: set[float] = set()  # beginnings of texts that stand in, of the last pass
    latest: dict[bool, Narration | None] = {}  # by whether it stands in
    for event in events:
        said = event.narration
        is_answer = not said.stand_in and said.begins in waiting
        before = latest.values() if said.stand_in else [latest.get(False)]
        if not found or (not is_answer and any(_begins_anew(said, each) for each in before)):
            found.append([])
            waiting, latest = set(), {}
        found[-1].append(event)
        (waiting.add if said.stand_in else waiting.discard)(said.begins)
        latest[said.stand_in] = said
    return [sorted(each, key=lambda event: (event.narration.begins, not event.narration.stand_in)) for each in found]


def _begins_anew(said: Narration, before: Narration | None) -> bool:
    """Return whether a text comes before another one, or is about the same window again."""
    if before is None:
        return False
    window, other = (said.begins, said.start, said.end), (before.begins, before.start, before.end)
    return said.begins < before.begins or window == other


def _srt(events: list[Event]) -> str:
    """Return the subtitles of the last pass: for each change its answer, or the text that stands in for it."""
    latest = (passes(events) or [[]])[-1]
    by_change = {event.narration.begins: event.narration for event in latest}  # an answer comes after what stood in
    stream = io.StringIO()
    writer = SrtWriter(stream)
    for narration in by_change.values():
        writer.add(replace(narration, stand_in=False))  # nothing more will come for it
    writer.finish(max((narration.end for narration in by_change.values()), default=0.0))
    return stream.getvalue()


def _dicts(name: str, events: list[Event]) -> list[dict[str, Any]]:
    return [
        event.as_dict() | {"source": name, "stand_in": event.narration.stand_in, "pass": number}
        for number, each in enumerate(passes(events), 1)
        for event in each
    ]


def _csv(name: str, events: list[Event]) -> str:
    stream = io.StringIO()
    rows = csv.writer(stream)
    rows.writerow(_COLUMNS)
    for values in _dicts(name, events):
        rows.writerow([_cell(values[column]) for column in _COLUMNS])
    return stream.getvalue()


def _cell(value: object) -> object:
    """Return a value that no spreadsheet takes for a formula."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
