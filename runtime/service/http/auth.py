"""Which requests are accepted: by Host header, token, origin and size."""

from __future__ import annotations

import hashlib
import hmac
import time
from urllib.parse import urlsplit

import anyio
from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import cookie_parser
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .forwarded import host_and_scheme, host_name
from .state import ServerOptions
from .streaming import TRANSPORT

UPLOAD_PATHS = ("/api/embed", "/api/classify", "/api/ask")  # uploads.py limits these bodies
OPEN_PATH = "/healthz"  # needs no token
EVENTS_PATH = "/api/events"  # of no use in a tab, and it would take a place
_MAX_BODY = 65_536  # bytes of any other request
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
_READ_ONLY = ("GET", "HEAD", "OPTIONS")


class AuthMiddleware:
    """ASGI middleware that refuses requests before they reach the application, and adds security headers."""

    def __init__(self, app: ASGIApp, options: ServerOptions) -> None:
        self._app, self._options = app, options

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        if scope["type"] != "http":
            return await send({"type": "websocket.close", "code": 1008})
        # Uvicorn passes the connection only as the object that `receive` is bound to; other servers have none there.
        scope[TRANSPORT] = getattr(getattr(receive, "__self__", None), "transport", None)
        headers = Headers(scope=scope)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                response_headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    response_headers.setdefault(name, value)
                response_headers.setdefault("Cache-Control", "no-store")
            await send(message)

        refusal = self._refusal(scope, headers)
        if refusal is not None:
            return await refusal(scope, receive, send_with_headers)
        await self._app(
            scope,
            receive if scope["path"] in UPLOAD_PATHS else _bounded(receive, self._options.patience),
            send_with_headers,
        )

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        path, method = scope["path"], scope["method"]
        changes = method not in _READ_ONLY
        host, scheme = host_and_scheme(scope, self._options.trusted_proxies)
        if not self._host_allowed(host):
            line = "the Host header does not name this server: use its own address, or start it with --allowed-host"
            return _refuse(400, line)
        if path == OPEN_PATH and not changes:
            return None
        if path == "/" and method == "GET" and b"token=" in scope["query_string"]:
            return self._log_in(scope, scheme)
        if not self._has_token(scope, headers):
            line = "the token is missing or wrong: open /?token=TOKEN, or send Authorization: Bearer TOKEN"
            return _refuse(401, line, {"WWW-Authenticate": "Bearer"})
        opens = method == "GET" and path != EVENTS_PATH and _is_link(headers)
        if not (self._is_own_page(headers, host) or opens or method == "OPTIONS"):
            return _refuse(403, "the request comes from another site's page: use this server's own page")
        length = headers.get("content-length", "0")
        if path not in UPLOAD_PATHS and length.isdigit() and int(length) > _MAX_BODY:
            return _refuse(413, f"the request has more than {_MAX_BODY} bytes: send less")
        return None

    def _host_allowed(self, host: str) -> bool:
        names = (*self._options.hosts, *map(host_name, self._options.allowed_hosts))
        return "*" in names or host_name(host) in names

    def _has_token(self, scope: Scope, headers: Headers) -> bool:
        token = self._options.token
        if token is None:
            return True
        scheme, _, credentials = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and _same(credentials.strip(), token):
            return True
        cookies = cookie_parser("; ".join(headers.getlist("cookie")))
        return _same(cookies.get(_cookie_name(scope), ""), _cookie_value(token))

    def _is_own_page(self, headers: Headers, host: str) -> bool:
        """Return whether a request comes from this server's own page, or not from a page."""
        site = headers.get("sec-fetch-site", "none")  # a browser's own word, which no page can change
        origin = headers.get("origin")
        if site not in ("same-origin", "none") or origin is None:
            return site in ("same-origin", "none")
        given = urlsplit(origin).netloc.lower()
        # A proxy may pass another Host on, or one without its port.
        allowed = self._options.allowed_hosts
        return given in (host, *allowed) or (site == "same-origin" and host_name(given) in map(host_name, allowed))

    def _log_in(self, scope: Scope, scheme: str) -> Response:
        token = self._options.token
        given = QueryParams(scope["query_string"].decode("latin-1")).get("token", "")
        if token is not None and not hmac.compare_digest(given.encode("utf-8", "replace"), token.encode()):
            line = "the token is wrong: use the one that the server was started with"
            return _refuse(401, line, {"WWW-Authenticate": "Bearer"})
        answer = RedirectResponse("/", 303)
        if token is not None:  # the cookie is a hash of the token
            secure = scheme == "https"
            answer.set_cookie(
                _cookie_name(scope), _cookie_value(token), httponly=True, samesite="strict", secure=secure
            )
        return answer


def _is_link(headers: Headers) -> bool:
    """Return whether the user has followed a link: the response fills a tab, and no other page can read it."""
    return headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"


def _bounded(receive: Receive, seconds: float) -> Receive:
    """Limit the time that a body takes, and its size if it declares no Content-Length."""
    received, complete, until = 0, False, time.monotonic() + seconds

    async def counted() -> Message:
        nonlocal received, complete
        try:
            with anyio.fail_after(None if complete else max(until - time.monotonic(), 0.0)):
                message = await receive()
        except TimeoutError:
            raise HTTPException(408, "the request stopped coming: send it again") from None
        complete = not message.get("more_body", False)
        received += len(message.get("body", b""))
        if received > _MAX_BODY:
            raise HTTPException(413, f"the request has more than {_MAX_BODY} bytes: send less")
        return message

    return counted


def _cookie_name(scope: Scope) -> str:
    # Browsers send cookies to every port of a host: each of several servers on it has its own.
    server = scope.get("server")
    return f"vlj-edge-{server[1]}" if server and server[1] else "vlj-edge"


def _cookie_value(token: str) -> str:
    return hmac.new(token.encode(), b"vlj-edge cookie", hashlib.sha256).hexdigest()


def _same(header: str, secret: str) -> bool:
    # Headers arrive decoded as Latin-1. The comparison takes constant time.
    return hmac.compare_digest(header.encode("latin-1", "replace"), secret.encode())


def _refuse(status: int, line: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": line}, status, headers)
