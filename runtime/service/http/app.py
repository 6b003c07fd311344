"""The application: which routes there are, what stands before them, and how errors are told."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib import resources
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, JSONResponse, Response

import vlj_edge
from vlj_edge.errors import VljEdgeError

from ..station import Station
from . import clip_routes, live_routes
from .auth import AuthMiddleware
from .broadcast import Broadcaster
from .options import LOCAL, Options, ServerState, server_state
from .redact import line_of
from .schemas import Problem

__all__ = ["LOCAL", "Broadcaster", "Options", "build_app"]

_POWER_EVERY = 5.0  # seconds that power is the mean of
_REFUSALS: dict[int | str, dict[str, Any]] = {code: {"model": Problem} for code in (400, 401, 403, 413, 422)}


def build_app(station: Station, hub: Broadcaster, options: Options) -> FastAPI:
    """The application of one station.

    Args:
        hub: that the station was made with: Station(heard=hub.heard). Close it before the server ends, or its clients
            keep that from ending.
    """
    desk = server_state(station, hub, options)
    app = FastAPI(
        title="vlj-edge",
        version=vlj_edge.__version__,
        docs_url=None,  # they load from a CDN
        redoc_url=None,
        redirect_slashes=False,
        responses=_REFUSALS,
        lifespan=_lifespan(desk),
    )
    app.add_middleware(AuthMiddleware, options=options)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(VljEdgeError, _mendable)
    app.add_exception_handler(Exception, _failed)
    token = [Depends(HTTPBearer(auto_error=False))]  # for the description; the guard has asked for it already
    for part in (
        live_routes.state,
        live_routes.pictures,
        live_routes.events,
        live_routes.settings,
        clip_routes.clips,
        clip_routes.library,
    ):
        app.include_router(part(desk), dependencies=token)
    app.include_router(live_routes.health(desk))
    page = resources.files("vlj_edge").joinpath("pages").joinpath("live.html").read_text(encoding="utf-8")

    # Not response_class=HTMLResponse: FastAPI would describe refusals as HTML, too.
    html: dict[int | str, dict[str, Any]] = {200: {"content": {"text/html": {"schema": {"type": "string"}}}}}

    @app.get("/", response_class=Response, responses=html, dependencies=token)
    def live() -> Response:
        """The page."""
        nonce = secrets.token_urlsafe(16)
        return HTMLResponse(page.replace("{{NONCE}}", nonce), headers={"Content-Security-Policy": _policy(nonce)})

    return app


def _lifespan(desk: ServerState) -> Any:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(desk.hub.watch(desk.station)), asyncio.create_task(_read_power(desk))]
        try:
            yield
        finally:
            desk.closing.set()
            desk.hub.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.to_thread(desk.gauge.stop)
            desk.workers.shutdown(wait=False, cancel_futures=True)

    return lifespan


async def _read_power(desk: ServerState) -> None:
    while True:
        with suppress(VljEdgeError, OSError):
            await asyncio.to_thread(desk.gauge.read)
        await asyncio.sleep(_POWER_EVERY)


def _policy(nonce: str) -> str:
    return (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src 'self' data:;"
        " connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    )


async def _refused(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    lines = {404: "there is nothing here: /openapi.json lists what there is", 405: "that cannot be done here"}
    plain = error.detail in ("Not Found", "Method Not Allowed")
    line = lines[error.status_code] if plain else error.detail
    return JSONResponse({"error": line}, error.status_code, error.headers)


async def _invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:]) or "the request"
    return JSONResponse({"error": line_of(f"{where[:100]}: {first['msg']}")}, 422)


async def _mendable(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"error": line_of(error)}, 422)


async def _failed(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"error": f"vlj-edge failed inside ({type(error).__name__}): please report it"}, 500)
