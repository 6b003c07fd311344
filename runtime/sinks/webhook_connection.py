"""Connections of a webhook: urllib's, which can be cut from another thread."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import urllib.request
from contextlib import suppress
from typing import Any


class Connections(urllib.request.HTTPHandler, urllib.request.HTTPSHandler):
    """The connections of one sink, as handlers of urllib.

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

    def _create(self, *where: Any, **how: Any) -> socket.socket:
        created = socket.create_connection(*where, **how)
        self._add(created)
        return created

    def _add(self, opened: socket.socket) -> None:
        with self._lock:
            self._opened.append(opened)
            if self.cut_because is not None:
                _shut_down(opened)


def _shut_down(opened: socket.socket) -> None:
    with suppress(OSError):  # of TCP: shutting down TLS would change the object that another thread reads from
        socket.socket.shutdown(opened, socket.SHUT_RDWR)
