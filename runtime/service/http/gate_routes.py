"""Routes that show what the gates of a source decide, and on what they have learned of it."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Query, Response

from vlj_edge.decision_words import text_words, window_words
from vlj_edge.decisions import Decision, TextReport
from vlj_edge.results import WindowReport

from ...gating.picture_noise import PictureNoise
from ...gating.stream_noise import StreamNoise, thresholds_now
from ...video.recordings.image import encode_png
from .gate_schemas import (
    CheckState,
    DecisionState,
    GatesQuery,
    GatesState,
    NoiseState,
    TextDecision,
    ThresholdState,
    WindowDecisions,
)
from .schemas import Problem
from .state import ServerState

_SHOWN = 60.0  # seconds
_WHITE = 0.01  # noise of a cell that is white: it always moves
_PIXELS = 4  # a side of a cell

_NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": Problem}}
_PNG: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}}
}


def gates(server: ServerState) -> APIRouter:
    """Return the routes for decisions, thresholds and noise."""
    router = APIRouter()

    @router.get("/api/sources/{name:path}/gates", responses=_NOT_FOUND)
    def gates_now(name: str, query: Annotated[GatesQuery, Query()]) -> GatesState:
        """What the gates of a source decided in the last minute, their thresholds now, and the noise of the source.

        With `after`, the `number` of an earlier response, only the windows and texts since.
        """
        channel = server.channel(name)
        noise = server.station.learned.of(channel.settings)
        thresholds = thresholds_now(server.gates_of(channel.settings), noise)
        number, windows, texts = channel.statistics.latest(_SHOWN, query.after)
        return GatesState(
            name=name,
            number=number,
            noise=_noise_state(noise),
            thresholds=[ThresholdState(**vars(each)) for each in thresholds],
            windows=[_window(at, report) for at, report in windows],
            texts=[_text(at, report) for at, report in texts],
        )

    @router.get("/api/sources/{name:path}/noise.png", response_class=Response, responses=_PNG | _NOT_FOUND)
    def noise_map(name: str) -> Response:
        """How much each part of the picture changes while nothing happens: black not at all, white always."""
        channel = server.channel(name)
        return Response(noise_png(server.station.learned.of(channel.settings).picture), media_type="image/png")

    return router


def noise_png(noise: PictureNoise) -> bytes:
    """Return the noise of each cell as a grey picture, brighter with its square root."""
    shade = (255 * np.sqrt(np.clip(noise.median / _WHITE, 0, 1))).astype(np.uint8)
    return encode_png(shade.repeat(_PIXELS, axis=0).repeat(_PIXELS, axis=1))


def _noise_state(noise: StreamNoise) -> NoiseState:
    picture, spread = noise.picture, noise.embedding.spread
    scenes = None if spread.moments is None else spread.moments.between_scenes
    return NoiseState(
        pictures=picture.seen,
        typical=float(np.median(picture.median)),
        highest=float(picture.median.max()),
        always_moving=picture.restless(),
        shakes=picture.shakes,
        looks=len(noise.embedding.cosines),
        cosine=noise.embedding.level,
        moments=spread.unrelated,
        scenes=1 - scenes if scenes else None,
    )


def _window(seconds: float, report: WindowReport) -> WindowDecisions:
    words = window_words(report)
    return WindowDecisions(
        time=seconds,
        similarity=report.similarity,
        resting=report.resting,
        spoke=report.spoke,
        decisions=[_decision(each) for each in report.decisions],
        **words._asdict(),
    )


def _text(seconds: float, report: TextReport) -> TextDecision:
    return TextDecision(
        time=seconds,
        text=report.text,
        origin=report.origin,
        told=report.told,
        decision=_decision(report.decision),
        why=text_words(report),
    )


def _decision(decision: Decision) -> DecisionState:
    checks = [CheckState(**check.as_dict()) for check in decision.checks]
    return DecisionState(**vars(decision) | {"checks": checks})
