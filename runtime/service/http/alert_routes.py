"""Routes for alerts: their state, and their latest events with picture and clip."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, HTTPException, Response

from vlj_edge.errors import without_credentials

from ...sinks.alert_event import AlertEvent
from .byte_range import byte_range
from .redact import shown_names
from .schemas import AlertRecord, AlertState, Problem
from .state import ServerState

_MOST_MESSAGES = 300  # of the latest events; each has up to three
_NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": Problem}}


def alerts(server: ServerState) -> APIRouter:
    """Return the routes for alerts."""
    router = APIRouter()

    @router.get("/api/alerts")
    def states() -> list[AlertState]:
        """Every alert on every source that it watches."""
        return alert_states(server)

    @router.get("/api/alerts/events")
    def events() -> list[AlertRecord]:
        """The latest events of alerts, the newest first; with --alert-folder also those before the last start."""
        return _records(server)

    @router.get("/api/alerts/events/{event}/picture.jpg", response_class=Response, responses=_file("image/jpeg"))
    def picture(event: str) -> Response:
        """The picture with which an event began."""
        return Response(_found(server.station.alerts.journal.picture(event)), media_type="image/jpeg")

    @router.get("/api/alerts/events/{event}/clip.mp4", response_class=Response, responses=_file("video/mp4"))
    def clip(event: str, range: Annotated[str | None, Header()] = None) -> Response:
        """The clip of an event, from before to after its beginning; all of it, or the range of bytes asked for."""
        data = _found(server.station.alerts.journal.clip(event))
        part = byte_range(range, len(data))
        headers = {"Accept-Ranges": "bytes"}
        if part is None:
            return Response(data, media_type="video/mp4", headers=headers)
        first, last = part
        headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
        return Response(data[first : last + 1], 206, headers, "video/mp4")

    return router


def alert_states(server: ServerState) -> list[AlertState]:
    """Return every alert on every source that it watches."""
    watch = server.station.alerts
    above = {alert.name: alert.rule.above for alert in watch.alerts}
    shown = shown_names(server.station.channels)
    return [
        AlertState(
            alert=each.alert,
            source=shown.get(each.source, each.source),
            state="asking" if each.asking else each.state.phase,
            score=None if each.state.score is None else round(each.state.score, 4),
            above=above.get(each.alert, 0.0),
            events=each.events,
            event=each.event,
            since=each.since,
        )
        for each in watch.statuses()
    ]


def _records(server: ServerState) -> list[AlertRecord]:
    journal, shown = server.station.alerts.journal, shown_names(server.station.channels)
    pictured = journal.pictured()
    by_event: dict[str, dict[str, AlertEvent]] = {}
    for message in journal.latest(_MOST_MESSAGES):
        by_event.setdefault(message.event, {})[message.kind] = message
    return [
        AlertRecord(
            event=event,
            alert=kinds["start"].alert,
            source=shown.get(kinds["start"].source, without_credentials(kinds["start"].source)),
            clock=kinds["start"].clock,
            since=kinds["start"].since,
            ended=kinds["end"].since if "end" in kinds else None,
            score=max(round(each.score, 4) for each in kinds.values()),
            confirmed=kinds["start"].confirmed,
            picture=event in pictured,
            clip="clip" in kinds,
        )
        for event, kinds in by_event.items()
        if "start" in kinds  # of those that are forgotten, an end may still be there
    ]


def _found(data: bytes | None) -> bytes:
    if data is None:
        raise HTTPException(404, "there is none of such an event: /api/alerts/events lists those that are kept")
    return data


def _file(media_type: str) -> dict[int | str, dict[str, Any]]:
    content: dict[str, Any] = {"content": {media_type: {"schema": {"type": "string", "format": "binary"}}}}
    return {200: content, **({206: content} if media_type == "video/mp4" else {}), **_NOT_FOUND}
