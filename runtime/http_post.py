"""POST requests of urllib whose connections can be cut from another thread, and that stay on their server."""

from __future__ import annotations

import base64
import http.client
import re
import socket
import ssl
import threading
import time
import urllib.request
from contextlib import suppress
from dataclasses import dataclass, field
from email.message import Message
from email.utils import parsedate_to_datetime
from typing import IO, Any
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from vlj_edge.errors import VljEdgeError, WrongCall, without_credentials
from vlj_edge.loopback import is_loopback

_MOST_WAIT = 3600.0  # seconds that a server may ask to be left alone


class Redirected(VljEdgeError):
    """A redirect to another server, which is not followed.

    Attributes:
        old, new: scheme, host and port.
    """

    def __init__(self, old: str, new: str) -> None:
        super().__init__(f"a redirect from {old} to {new} is not followed: give that address")
        self.old, self.new = old, new


@dataclass(frozen=True)
class WebAddress:
    """An address that can be posted to.

    Attributes:
        url: without credentials and fragment.
        server: scheme, host and port, for messages: the path may be a secret.
        authorization: the header that stands for its user and password; None without them.
        proxies: as for urllib's ProxyHandler: a proxy is the environment's; it cannot reach what listens on this
            machine.
    """

    url: str = field(repr=False)
    server: str
    authorization: str | None = field(repr=False)
    proxies: dict[str, str] | None


def web_address(url: str) -> WebAddress:
    """Parse an address of a web server.

    Raises:
        VljEdgeError: it cannot be used. The message contains no credentials.
    """
    shown = _shown(url)
    parts, host, port = split_address(url)
    if parts.scheme not in ("http", "https") or not host:
        raise WrongCall(f"no address of a web server ({shown}): give http://HOST/PATH or https://HOST/PATH")
    if re.search(r"[^!-~]", url):
        raise WrongCall(f"the address has a space or a letter beyond ASCII in it ({shown}): write it as %20 and so on")
    authorization = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = "Basic " + base64.b64encode(pair.encode()).decode()
    named = f"[{host}]" if ":" in host else host
    return WebAddress(
        urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment="")),
        f"{parts.scheme}://{named}{f':{port}' if port else ''}",
        authorization,
        {} if is_loopback(host) else None,
    )


def split_address(url: str) -> tuple[SplitResult, str | None, int | None]:
    """Return an address in its parts, with its host and port.

    Raises:
        VljEdgeError: the address is malformed. The message contains no credentials.
    """
    try:
        parts = urlsplit(url)
        return parts, parts.hostname, parts.port
    except ValueError:  # its message may quote a password
        shown = _shown(url)
        raise WrongCall(f"no address ({shown}): check host and port, and write %40 for @ in a password") from None


def _shown(url: str) -> str:
    """Return an address without what is secret in it, also where its scheme is missing."""
    scheme = "" if "://" in url else "http://"
    return without_credentials(scheme + url).removeprefix(scheme)


class Connections(urllib.request.HTTPHandler, urllib.request.HTTPSHandler):
    """The connections of one sender, as handlers of urllib.

    urllib's timeout is for each byte (but for a TLS handshake as a whole): a server that sends one now and then keeps
    a request waiting for ever.

    Attributes:
        cut_because: the reason given to cut(); None after allow().
    """

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._opened: list[socket.socket] = []
        self.cut_because: str | None = None

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        """See urllib."""
        return self.do_open(self._http, req)

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        """See urllib."""
        return self.do_open(self._https, req, context=ssl.create_default_context())

    def cut(self, why: str) -> None:
        """Cut all connections, and those that are opened until allow() is called. Callable from any thread."""
        with self._lock:
            self.cut_because = self.cut_because or why
            for opened in self._opened:
                _shut_down(opened)

    def allow(self) -> None:
        """Forget the connections so far, and allow new ones."""
        with self._lock:
            self.cut_because = None
            self._opened.clear()

    def _http(self, host: str, **how: Any) -> http.client.HTTPConnection:
        return self._watched(http.client.HTTPConnection(host, **how))

    def _https(self, host: str, **how: Any) -> http.client.HTTPConnection:
        return self._watched(http.client.HTTPSConnection(host, **how))

    def _watched(self, connection: http.client.HTTPConnection) -> http.client.HTTPConnection:
        connect = connection.connect

        def connect_and_watch() -> None:
            connection._create_connection = self._create  # type: ignore[attr-defined]
            connect()
            self._add(connection.sock)  # of TLS: it has replaced the one that _create() made

        connection.connect = connect_and_watch  # type: ignore[method-assign]
        return connection

    def _create(self, where: tuple[str, int], timeout: float | None = None, *_unused: Any) -> socket.socket:
        """Connect as socket.create_connection() does, but so that cut() ends it."""
        first: OSError | None = None
        for family, kind, protocol, _, address in socket.getaddrinfo(*where, 0, socket.SOCK_STREAM):
            made = socket.socket(family, kind, protocol)
            try:
                made.settimeout(timeout)
                self._add(made)
                made.connect(address)
                return made
            except OSError as error:
                first = first or error
                made.close()
            if self.cut_because is not None:
                break
        raise first or OSError("no address is known of it")

    def _add(self, opened: socket.socket) -> None:
        with self._lock:
            self._opened.append(opened)
            if self.cut_because is not None:
                _shut_down(opened)


class SameServer(urllib.request.HTTPRedirectHandler):
    """Follows a redirect with the same POST (urllib would send a GET without what is sent), on the same server only.

    What another server would get is not meant for it: the credentials, what is sent, or, at an address that only this
    machine reaches, a command.
    """

    http_error_308 = urllib.request.HTTPRedirectHandler.http_error_302  # Python 3.10 lacks it

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        """See urllib."""
        old, new = _origin(req.full_url), _origin(newurl)
        if new != old:
            fp.close()
            raise Redirected(old, new)
        if code == 303:  # See Other: it was accepted
            return super().redirect_request(req, fp, code, msg, headers, newurl)
        return urllib.request.Request(newurl, req.data, req.headers, req.origin_req_host, True, "POST")


def retry_after(headers: Message) -> float | None:
    """Return the Retry-After of an answer in seconds, an hour at most: it is a number or a date; None if there is none
    that can be read."""
    after = headers.get("Retry-After")
    if not after:
        return None
    try:
        seconds = float(after)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(after).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            return None
    return min(max(seconds, 0.0), _MOST_WAIT) if seconds == seconds else None


def _origin(url: str) -> str:
    """Return scheme, host and port of an address; for an ill-formed one, a value that equals no other."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
        return f"{parts.scheme}://{parts.hostname}:{port}"
    except ValueError:
        return "an address that is none"


def _shut_down(opened: socket.socket) -> None:
    with suppress(OSError):  # of TCP: shutting down TLS would change the object that another thread reads from
        socket.socket.shutdown(opened, socket.SHUT_RDWR)
