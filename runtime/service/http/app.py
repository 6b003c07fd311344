"""The application: its routes, its middleware, and its error responses."""

from __future__ import annotations

import asyncio
import errno
import logging
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

from ...alerts.journal import JournalUnreadable
from ..station import Station
from . import alert_routes, clip_routes, gate_routes, live_routes, text_routes
from .auth import AuthMiddleware
from .broadcast import Broadcaster
from .redact import safe_line
from .repeated_lines import once_a_minute
from .schemas import Problem
from .state import LOCAL_HOSTS, ServerOptions, ServerState, make_state

__all__ = ["LOCAL_HOSTS", "Broadcaster", "ServerOptions", "build_app"]

_LOG = logging.getLogger(__name__)
_LOG.addFilter(once_a_minute)
_POWER_INTERVAL = 5.0  # seconds that a power reading averages
_REFUSALS: dict[int | str, dict[str, Any]] = {code: {"model": Problem} for code in (400, 401, 403, 413, 422)}


def build_app(station: Station, broadcaster: Broadcaster, options: ServerOptions) -> FastAPI:
    """Return the application of one station.

    Args:
        broadcaster: gets the station's events: Station(on_event=broadcaster.publish_event). Close it before the server
            ends: open streams to its clients would keep the server running.
    """
    server = make_state(station, broadcaster, options)
    app = FastAPI(
        title="vlj-edge",
        version=vlj_edge.__version__,
        docs_url=None,  # these pages load scripts from a CDN
        redoc_url=None,
        redirect_slashes=False,
        responses=_REFUSALS,
        lifespan=_lifespan(server),
    )
    app.state.server = server
    app.add_middleware(AuthMiddleware, options=options)
    app.add_exception_handler(HTTPException, _answer_http_error)
    app.add_exception_handler(RequestValidationError, _answer_invalid_request)
    app.add_exception_handler(VljEdgeError, _answer_user_error)
    app.add_exception_handler(JournalUnreadable, _answer_unreadable)
    for kind in (OSError, MemoryError):
        app.add_exception_handler(kind, _answer_scarcity)
    app.add_exception_handler(RuntimeError, _answer_runtime_error)
    app.add_exception_handler(Exception, _answer_internal_error)
    token = [Depends(HTTPBearer(auto_error=False))]  # only for the OpenAPI description: AuthMiddleware checks it
    for routes in (
        live_routes.state,
        live_routes.images,
        gate_routes.gates,
        live_routes.events,
        alert_routes.alerts,
        live_routes.settings,
        text_routes.texts,
        clip_routes.clips,
        clip_routes.library,
    ):
        app.include_router(routes(server), dependencies=token)
    app.include_router(live_routes.health(server))
    page = resources.files("vlj_edge").joinpath("pages").joinpath("live.html").read_text(encoding="utf-8")

    # Not response_class=HTMLResponse: FastAPI would describe refusals as HTML, too.
    html: dict[int | str, dict[str, Any]] = {200: {"content": {"text/html": {"schema": {"type": "string"}}}}}

    @app.get("/", response_class=Response, responses=html, dependencies=token)
    def live_page() -> Response:
        """The live page."""
        nonce = secrets.token_urlsafe(16)
        headers = {"Content-Security-Policy": _content_security_policy(nonce)}
        return HTMLResponse(page.replace("{{NONCE}}", nonce), headers=headers)

    return app


def _lifespan(server: ServerState) -> Any:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        tasks = [
            asyncio.create_task(server.broadcaster.watch(server.station)),
            asyncio.create_task(_read_power(server)),
        ]
        try:
            yield
        finally:
            server.closing.set()
            server.broadcaster.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.to_thread(server.power_meter.stop)
            server.workers.shutdown(wait=False, cancel_futures=True)

    return lifespan


async def _read_power(server: ServerState) -> None:
    while True:
        with suppress(VljEdgeError, OSError):
            await asyncio.to_thread(server.power_meter.read)
        await asyncio.sleep(_POWER_INTERVAL)


def _content_security_policy(nonce: str) -> str:
    return (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src 'self' data:;"
        " media-src 'self'; connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    )


async def _answer_http_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    lines = {404: "no such address: /openapi.json lists all of them", 405: "this address does not allow that method"}
    by_framework = error.detail in ("Not Found", "Method Not Allowed")
    line = lines[error.status_code] if by_framework else error.detail
    return JSONResponse({"error": line}, error.status_code, error.headers)


async def _answer_invalid_request(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:]) or "the request"
    return JSONResponse({"error": safe_line(f"{where[:100]}: {first['msg']}")}, 422)


async def _answer_user_error(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"error": safe_line(error)}, 422)


async def _answer_unreadable(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"error": safe_line(error)}, 503)


async def _answer_scarcity(_: Request, error: Exception) -> JSONResponse:
    """Answer that the system has no descriptors, memory or room left."""
    why = getattr(error, "strerror", None) or type(error).__name__
    _LOG.warning("requests fail: the system refuses what they need (%s)", why)
    return JSONResponse({"error": f"the system refuses what this needs ({why}): try again later"}, 503)


async def _answer_runtime_error(request: Request, error: Exception) -> JSONResponse:
    if "start new thread" not in str(error):  # Python has no class of its own for it
        raise error
    return await _answer_scarcity(request, OSError(errno.EAGAIN, str(error)))


async def _answer_internal_error(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"error": f"vlj-edge failed inside ({type(error).__name__}): please report it"}, 500)
