"""Who may ask: the name in the Host header, the token, where a changing request comes from, and how much it sends."""

from __future__ import annotations

import hashlib
import hmac
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .options import Options
from .streaming import TRANSPORT

COOKIE = "vlj-edge"
UPLOADS = ("/api/embed", "/api/classify", "/api/ask")  # they count what comes for themselves
OPEN = "/healthz"
_MOST_BODY = 65_536  # bytes of any other request
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
_SAFE = ("GET", "HEAD", "OPTIONS")


class AuthMiddleware:
    """ASGI middleware: nothing gets past it that may not."""

    def __init__(self, app: ASGIApp, options: Options) -> None:
        self._app, self._options = app, options

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        if scope["type"] != "http":
            return await send({"type": "websocket.close", "code": 1008})
        # Uvicorn shows a request's connection only as what its methods belong to; elsewhere there is none.
        scope[TRANSPORT] = getattr(getattr(receive, "__self__", None), "transport", None)
        headers = Headers(scope=scope)

        async def dressed(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    given.setdefault(name, value)
                given.setdefault("Cache-Control", "no-store")
            await send(message)

        refusal = self._refusal(scope, headers)
        if refusal is not None:
            return await refusal(scope, receive, dressed)
        await self._app(scope, receive if scope["path"] in UPLOADS else _bounded(receive), dressed)

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        path, changes = scope["path"], scope["method"] not in _SAFE
        if not self._host_allowed(headers.get("host", "")):
            return _no(400, "the Host header names another machine than this server answers for: use its own address")
        if path == "/" and scope["method"] == "GET" and b"token=" in scope["query_string"]:
            return self._log_in(scope)
        if path != OPEN and not self._known(headers):
            line = "the token is missing or wrong: open /?token=TOKEN, or send Authorization: Bearer TOKEN"
            return _no(401, line, {"WWW-Authenticate": "Bearer"})
        if changes and not _own_origin(headers):
            return _no(403, "the request comes from another site's page: use this server's own page")
        length = headers.get("content-length", "0")
        if path not in UPLOADS and length.isdigit() and int(length) > _MOST_BODY:
            return _no(413, f"the request has more than {_MOST_BODY} bytes: send less")
        return None

    def _host_allowed(self, host: str) -> bool:
        name = host.lower()
        name = name[: name.find("]") + 1] if name.startswith("[") else name.partition(":")[0]
        return "*" in self._options.hosts or name in self._options.hosts

    def _known(self, headers: Headers) -> bool:
        token = self._options.token
        if token is None:
            return True
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and _same(given.strip(), token):
            return True
        try:
            cookies = SimpleCookie(headers.get("cookie", ""))
        except CookieError:
            return False
        return COOKIE in cookies and _same(cookies[COOKIE].value, _cookie(token))

    def _log_in(self, scope: Scope) -> Response:
        token = self._options.token
        given = QueryParams(scope["query_string"].decode("latin-1")).get("token", "")
        if token is not None and not hmac.compare_digest(given.encode("utf-8", "replace"), token.encode()):
            line = "the token is wrong: it is what the server was started with"
            return _no(401, line, {"WWW-Authenticate": "Bearer"})
        answer = RedirectResponse("/", 303)
        if token is not None:  # the cookie is made of the token, and is not the token
            secure = scope.get("scheme") == "https"
            answer.set_cookie(COOKIE, _cookie(token), httponly=True, samesite="strict", secure=secure)
        return answer


def _own_origin(headers: Headers) -> bool:
    """Browsers name the page's origin with every request that changes something; other programs name none."""
    origin = headers.get("origin")
    if origin is None:
        return headers.get("sec-fetch-site", "same-origin") in ("same-origin", "none")
    return urlsplit(origin).netloc.lower() == headers.get("host", "").lower()


def _bounded(receive: Receive) -> Receive:
    """Content-Length may be missing."""
    came = 0

    async def counted() -> Message:
        nonlocal came
        message = await receive()
        came += len(message.get("body", b""))
        if came > _MOST_BODY:
            raise HTTPException(413, f"the request has more than {_MOST_BODY} bytes: send less")
        return message

    return counted


def _cookie(token: str) -> str:
    return hmac.new(token.encode(), b"vlj-edge cookie", hashlib.sha256).hexdigest()


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode("latin-1", "replace"), wanted.encode())  # headers come as latin-1


def _no(status: int, line: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": line}, status, headers)
