"""Routes for the texts of a source as files: SRT, CSV and JSON."""

from __future__ import annotations

import csv
import io
from itertools import pairwise
from typing import Any

from fastapi import APIRouter, Response

from vlj_edge.json_text import json_text

from ...sinks.base import Event
from ...sinks.subtitles import SrtWriter
from .schemas import Problem
from .state import ServerState

_NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": Problem}}
_LIST: dict[int | str, dict[str, Any]] = {
    **_NOT_FOUND,
    200: {"content": {"application/json": {"schema": {"type": "array", "items": {"type": "object"}}}}},
}
_COLUMNS = ("clock", "source", "start", "end", "event_start", "text", "origin", "id")


def texts(server: ServerState) -> APIRouter:
    """Return the routes for the latest texts of a source, which a browser saves as a file."""
    router = APIRouter()

    def file(name: str, kind: str, media_type: str, content: str) -> Response:
        headers = {"Content-Disposition": f'attachment; filename="texts.{kind}"'}
        return Response(content.encode("utf-8", "replace"), media_type=f"{media_type}; charset=utf-8", headers=headers)

    @router.get("/api/sources/{name:path}/texts.srt", response_class=Response, responses=_file("application/x-subrip"))
    def as_srt(name: str) -> Response:
        """The latest texts of a source as subtitles, in seconds from its start; those since its last start."""
        return file(name, "srt", "application/x-subrip", _srt(_events(server, name)))

    @router.get("/api/sources/{name:path}/texts.csv", response_class=Response, responses=_file("text/csv"))
    def as_csv(name: str) -> Response:
        """The latest texts of a source as a table, the oldest first."""
        return file(name, "csv", "text/csv", _csv(name, _events(server, name)))

    @router.get("/api/sources/{name:path}/texts.json", response_class=Response, responses=_LIST)
    def as_json(name: str) -> Response:
        """The latest texts of a source as a list of events, the oldest first."""
        found = [event.as_dict() | {"source": name} for event in _events(server, name)]
        return file(name, "json", "application/json", json_text(found))

    return router


def _file(media_type: str) -> dict[int | str, dict[str, Any]]:
    return {200: {"content": {media_type: {"schema": {"type": "string"}}}}} | _NOT_FOUND


def _events(server: ServerState, name: str) -> list[Event]:
    server.channel(name)  # 404
    return server.broadcaster.texts_of(name)


def _srt(events: list[Event]) -> str:
    """Times of a source that is opened again start anew: subtitles are of the last time. Where a text stood in for an
    answer, the answer goes back in time as well.
    """
    first = 0
    for number, (before, event) in enumerate(pairwise(events), 1):
        if event.narration.begins < before.narration.begins and not before.narration.stand_in:
            first = number
    stream, last = io.StringIO(), 0.0
    writer = SrtWriter(stream)
    for event in events[first:]:
        writer.add(event.narration)
        last = event.narration.end
    writer.finish(last)
    return stream.getvalue()


def _csv(name: str, events: list[Event]) -> str:
    stream = io.StringIO()
    rows = csv.writer(stream)
    rows.writerow(_COLUMNS)
    for event in events:
        values = event.as_dict() | {"source": name}
        rows.writerow([_cell(values[column]) for column in _COLUMNS])
    return stream.getvalue()


def _cell(value: object) -> object:
    """Return a value that no spreadsheet takes for a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
