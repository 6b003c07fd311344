"""Routes of what goes on now: state, pictures, events, settings, health and metrics."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from time import monotonic
from typing import Annotated, Any, TypeAlias

from fastapi import APIRouter, Header, HTTPException, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

import vlj_edge
from vlj_edge.bundle import GateSettings

from ..channel import Channel
from .metrics import registry_of
from .options import ServerState, told
from .pictures import BOUNDARY
from .readings import counts_of, memory_megabytes, trouble
from .redact import line_of
from .schemas import Health, Problem, Said, Saved, Settings, SourceState, State, Watts
from .streaming import Streamed

Responses: TypeAlias = dict[int | str, dict[str, Any]]

_NO_SOURCE: Responses = {404: {"model": Problem}}
_FULL: Responses = {503: {"model": Problem}}


def _content(kind: str, **schema: str) -> Responses:
    return {200: {"content": {kind: {"schema": {"type": "string"} | schema}}}}


def pictures(desk: ServerState) -> APIRouter:
    """Still and moving."""
    router = APIRouter()

    @router.get(
        "/api/sources/{name:path}/picture.jpg",
        response_class=Response,
        responses=_content("image/jpeg", format="binary") | _NO_SOURCE,
    )
    def picture(name: str) -> Response:
        """The newest frame of a source."""
        made = desk.picture(name).jpeg()
        if made is None:
            raise HTTPException(404, "there is no picture yet: ask again once the source is live")
        return Response(made[1], media_type="image/jpeg")

    kind = f"multipart/x-mixed-replace; boundary={BOUNDARY}"

    @router.get(
        "/api/sources/{name:path}/video.mjpg",
        response_class=Response,
        responses=_content("multipart/x-mixed-replace", format="binary") | _NO_SOURCE | _FULL,
    )
    async def video(name: str) -> Response:
        """New frames of a source as they come, at most five a second, until it ends."""
        moving = desk.picture(name).moving(desk.closing)
        desk.viewers.take()
        return Streamed(moving, kind, desk.options.patience, desk.viewers.give_back)

    return router


def events(desk: ServerState) -> APIRouter:
    """As they happen."""
    router = APIRouter()

    @router.get("/api/events", response_class=Response, responses=_content("text/event-stream") | _FULL)
    async def follow(last_event_id: Annotated[str | None, Header()] = None) -> Response:
        """Server-sent events: narration (with an id), look, state. The last texts come first."""
        if desk.hub.full:
            raise HTTPException(503, "as many listen already as may: close another page")
        return Streamed(desk.hub.follow(last_event_id), "text/event-stream", desk.options.patience)

    return router


def state(desk: ServerState) -> APIRouter:
    """All numbers: for the page, and for Prometheus."""
    router, registry = APIRouter(), registry_of(desk)

    @router.get("/api/state")
    def everything() -> State:
        """Everything at a glance."""
        power = desk.gauge.power
        return State(
            version=vlj_edge.__version__,
            preset=desk.station.model.manifest.preset,
            uptime=round(monotonic() - desk.started, 1),
            memory_megabytes=memory_megabytes(),
            power=Watts(watts=power.watts, celsius=power.celsius, source=power.source),
            clients=desk.hub.clients,
            store=desk.options.store is not None,
            saves=desk.options.save is not None,
            sources=[_source(desk, name, channel) for name, channel in desk.channels.items()],
        )

    @router.get("/metrics", response_class=Response, responses=_content("text/plain"))
    def metrics() -> Response:
        """For Prometheus."""
        return Response(generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return router


def settings(desk: ServerState) -> APIRouter:
    """What may be changed while it runs."""
    router = APIRouter()

    @router.put("/api/sources/{name:path}/settings", responses=_NO_SOURCE)
    def change(name: str, wanted: Settings) -> SourceState:
        """Go on with another query, other labels or thresholds."""
        channel = desk.channel(name)
        given = wanted.model_dump(exclude_none=True)
        query, labels = given.pop("query", None), given.pop("labels", None)
        if query is None and labels is None and not given:
            raise HTTPException(422, "there is nothing to change: give a query, labels or a threshold")
        with told():
            gates = _gates(desk.gates(channel), desk.gates_at_first(channel), given) if given else None
            channel.change(query, gates, labels)
        return _source(desk, name, channel)

    @router.post("/api/settings/save", responses=_NO_SOURCE)
    def save() -> Saved:
        """Keep the settings that hold now."""
        if desk.options.save is None:
            raise HTTPException(404, "there is no file to save settings in: start the server with one")
        with told():
            return Saved(saved=Path(desk.options.save([each.wanted for each in desk.channels.values()])).name)

    return router


def health(desk: ServerState) -> APIRouter:
    """For whoever starts it again when it fails."""
    router = APIRouter()

    @router.get("/healthz", responses={503: {"model": Problem}})
    def healthy() -> Health:
        """Does every source work, or has it come to its end?"""
        for name, channel in desk.channels.items():
            line = trouble(channel)
            if line is not None:
                raise HTTPException(503, f"{name}: {line_of(line)}")
        return Health(status="ok")

    return router


def _gates(now: GateSettings, first: GateSettings, given: dict[str, Any]) -> GateSettings:
    """With other thresholds. Those that speak_below must agree with keep the distance from it that they began with."""
    meaning, began = replace(now.meaning, **given), first.meaning
    if "speak_below" in given:
        below = given["speak_below"]
        at_rest = began.speak_below_at_rest
        if at_rest > -1:  # -1 means: never
            at_rest = min(max(below + at_rest - began.speak_below, -1.0), 1.0)
        above = max(began.forget_above, below, at_rest)
        meaning = replace(meaning, speak_below_at_rest=at_rest, forget_above=above)
    return replace(now, meaning=meaning)


def _source(desk: ServerState, name: str, channel: Channel) -> SourceState:
    gates, last = desk.gates(channel), channel.last
    said = None
    if last is not None:
        heard = last.narration
        said = Said(number=last.number, clock=last.clock, start=heard.start, end=heard.end, text=heard.text)
    return SourceState(
        name=name,
        state=channel.state,
        error=None if channel.error is None else line_of(channel.error),
        query=channel.wanted.query or desk.station.model.manifest.default_query,
        labels=list(channel.wanted.labels),
        label=channel.label,
        threshold=gates.meaning.speak_below,
        gates=asdict(gates),
        counts=counts_of(channel),
        last=said,
    )
