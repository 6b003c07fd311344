"""Routes for the live state: state, images, events, settings, health and metrics."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Annotated, Any, TypeAlias

from fastapi import APIRouter, Header, HTTPException, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

import vlj_edge
from vlj_edge.bundle import GateSettings

from ...embedding.own_labels import has_own_labels
from ...model import Model
from ..channel import Channel
from ..settings import SourceSettings
from .images import BOUNDARY
from .metrics import make_registry
from .readings import channel_problem, memory_megabytes
from .redact import safe_line
from .schemas import (
    Health,
    LastNarration,
    ModelState,
    PowerReading,
    Problem,
    Saved,
    SettingsChange,
    SinkState,
    SourceState,
    State,
    WordsState,
)
from .state import ServerState, user_errors_as_422
from .streaming import StreamingResponse

Responses: TypeAlias = dict[int | str, dict[str, Any]]

_NOT_FOUND: Responses = {404: {"model": Problem}}
_TOO_MANY: Responses = {503: {"model": Problem}}


def _content(media_type: str, **schema: str) -> Responses:
    return {200: {"content": {media_type: {"schema": {"type": "string"} | schema}}}}


def images(server: ServerState) -> APIRouter:
    """Return the routes for single frames and video."""
    router = APIRouter()

    @router.get(
        "/api/sources/{name:path}/picture.jpg",
        response_class=Response,
        responses=_content("image/jpeg", format="binary") | _NOT_FOUND,
    )
    def latest_frame(name: str) -> Response:
        """The newest frame of a source."""
        latest = server.latest_jpeg(name).get()
        if latest is None:
            raise HTTPException(404, "there is no frame yet: try again once the source is live")
        return Response(latest[1], media_type="image/jpeg")

    media_type = f"multipart/x-mixed-replace; boundary={BOUNDARY}"

    @router.get(
        "/api/sources/{name:path}/video.mjpg",
        response_class=Response,
        responses=_content("multipart/x-mixed-replace", format="binary") | _NOT_FOUND | _TOO_MANY,
    )
    async def video(name: str) -> Response:
        """New frames of a source, at most five a second, until it ends."""
        frames = partial(server.latest_jpeg(name).stream, server.closing)
        return StreamingResponse(frames, media_type, server.options.patience, server.viewers)

    return router


def events(server: ServerState) -> APIRouter:
    """Return the routes for server-sent events, and for the pictures of those that are kept."""
    router = APIRouter()

    @router.get(
        "/api/events/{event}/picture.jpg",
        response_class=Response,
        responses=_content("image/jpeg", format="binary") | _NOT_FOUND,
    )
    def picture(event: str) -> Response:
        """A small picture of the moment at which one of the latest texts was made, by its id."""
        found = server.broadcaster.picture_of(event)
        if found is None:
            raise HTTPException(404, "there is no picture of it any more: the event stream lists those that are kept")
        return Response(found, media_type="image/jpeg")

    @router.get("/api/events", response_class=Response, responses=_content("text/event-stream") | _TOO_MANY)
    async def stream(last_event_id: Annotated[str | None, Header()] = None) -> Response:
        """Server-sent events: narration, alert (with an id), window (what the gates decided), state (of a source).

        The last narrations and alerts come first. `picture` is where that of a narration is, or null.
        """
        messages, places = partial(server.broadcaster.stream, last_event_id), server.broadcaster.places
        return StreamingResponse(messages, "text/event-stream", server.options.patience, places)

    return router


def state(server: ServerState) -> APIRouter:
    """Return the routes for the state of the server: as JSON, and for Prometheus."""
    router, registry = APIRouter(), make_registry(server)

    @router.get("/api/state")
    def current_state() -> State:
        """The state of the server and of all its sources."""
        power = server.power_meter.power
        return State(
            version=vlj_edge.__version__,
            preset=server.station.model.manifest.preset,
            model=_model_state(server.station.model),
            backend=server.station.model.backend.description,
            uptime=round(monotonic() - server.started, 1),
            memory_megabytes=memory_megabytes(),
            power=PowerReading(watts=power.watts, celsius=power.celsius, source=power.source),
            clients=server.broadcaster.clients,
            store=server.options.store is not None,
            saves=server.options.save is not None,
            sources=[_source_state(server, name, channel) for name, channel in server.channels.items()],
            sinks=[_sink_state(sink.state()) for sink in server.station.sinks],
        )

    @router.get("/metrics", response_class=Response, responses=_content("text/plain"))
    def metrics() -> Response:
        """Metrics in Prometheus' text format."""
        return Response(generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return router


def settings(server: ServerState) -> APIRouter:
    """Return the routes that change settings and save them."""
    router = APIRouter()

    @router.put("/api/sources/{name:path}/settings", responses=_NOT_FOUND)
    def change_settings(name: str, change: SettingsChange) -> SourceState:
        """Change a source's query, labels, thresholds or budget while it runs."""
        channel = server.channel(name)
        given = change.model_dump(exclude_none=True)
        if not given and change.labels is None:
            raise HTTPException(422, "there is nothing to change: give a query, labels, a threshold or a budget")
        plain = {key: given.pop(key) for key in ("query", "labels") if key in given}
        limit = given.pop("calls_per_hour", None)
        if limit is not None and channel.settings.words is None:
            raise HTTPException(422, "there are no words from an endpoint to limit: start the server with --words URL")
        if "labels" in plain:
            plain["labels"] = tuple(plain["labels"])
        first = server.first_gates_of(channel)

        def changed(now: SourceSettings) -> SourceSettings:
            gates = change_thresholds(server.gates_of(now), first, given) if given else now.gates
            words = now.words if limit is None or now.words is None else replace(now.words, calls_per_hour=limit)
            return replace(now, gates=gates, words=words, **plain)

        with user_errors_as_422():
            channel.edit(changed)
        return _source_state(server, name, channel)

    @router.post("/api/settings/save", responses=_NOT_FOUND)
    def save() -> Saved:
        """Save the present settings of all sources."""
        if server.options.save is None:
            raise HTTPException(404, "there is no file to save settings in: start the server with --profile FILE")
        with user_errors_as_422():
            path = server.options.save([each.settings for each in server.channels.values()])
        return Saved(saved=Path(path).name)

    return router


def health(server: ServerState) -> APIRouter:
    """Return the health route for a supervisor."""
    router = APIRouter()

    @router.get("/healthz", responses={503: {"model": Problem}}, response_model_exclude_none=True)
    def healthy() -> Health:
        """Whether every source works, has been read to its end, or is waited for, as sinks are: no restart would help.

        `waits` says for what and why.
        """
        for name, channel in server.channels.items():
            problem = channel_problem(channel)
            if problem is not None:
                raise HTTPException(503, f"{name}: {safe_line(problem)}")
        waits = {name: each.problem for name, each in server.channels.items()}
        waits |= {sink.name: sink.problem for sink in server.station.sinks}
        found = {name: safe_line(problem) for name, problem in waits.items() if problem is not None}
        return Health(status="ok", waits=found or None)

    return router


def change_thresholds(now: GateSettings, first: GateSettings, given: dict[str, Any]) -> GateSettings:
    """Return gates with other thresholds. Thresholds that depend on speak_below keep their first distance from it.

    Args:
        first: the gates before they were first changed.
        given: settings of the meaning gate and of the budget, by name.
    """
    limits = {key: given[key] for key in ("texts_per_hour", "encodes_per_minute") if key in given}
    given = {key: value for key, value in given.items() if key not in limits}
    meaning, original = replace(now.meaning, **given), first.meaning
    if "speak_below" in given:
        below = given["speak_below"]
        at_rest = original.speak_below_at_rest
        if at_rest > -1:  # -1 turns it off
            at_rest = min(max(below + at_rest - original.speak_below, -1.0), 1.0)
        above = max(original.forget_above, below, at_rest)
        meaning = replace(meaning, speak_below_at_rest=at_rest, forget_above=above)
    return replace(now, meaning=meaning, budget=replace(now.budget, **limits))


def _words_state(channel: Channel) -> WordsState | None:
    settings, words = channel.settings.words, channel.words
    if settings is None or words is None:
        return None
    state = words.state()
    problem = None if state["problem"] is None else safe_line(state["problem"])
    return WordsState(**state | {"endpoint": safe_line(settings.endpoint.shown), "problem": problem})


def _sink_state(state: dict[str, Any]) -> SinkState:
    error = state["last_error"]
    return SinkState(**state | {"last_error": None if error is None else safe_line(error)})


def _model_state(model: Model) -> ModelState:
    own = model.chain.label_head[1] if has_own_labels(model) else []
    manifest = model.manifest
    return ModelState(takes_query=manifest.takes_query, takes_labels=manifest.embeds_texts, own_labels=own)


def _source_state(server: ServerState, name: str, channel: Channel) -> SourceState:
    settings, last = channel.settings, channel.last_event
    gates = server.gates_of(settings)
    return SourceState(
        name=name,
        state=channel.state,
        error=None if channel.problem is None else safe_line(channel.problem),
        query=settings.query or server.model.manifest.default_query,
        labels=list(settings.labels),
        label=channel.label,
        threshold=gates.meaning.speak_below,
        gates=asdict(gates),
        counts=channel.counts(),
        words=_words_state(channel),
        last=None if last is None else LastNarration(**vars(last.narration), number=last.number, clock=last.clock),
    )
