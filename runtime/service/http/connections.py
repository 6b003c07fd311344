"""Connections: how many there may be, and how long one may take to make its request.

uvicorn has no deadline for the head of a request, and its limit of connections also refuses those that work.
"""

from __future__ import annotations

import asyncio
import json
import logging
import resource
import socket
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from .repeated_lines import once_a_minute

REQUEST_SECONDS = 10.0  # for the whole head of a request, from the connection or the last response on
MOST_CONNECTIONS = 256  # and one address may have half of them
BACKLOG = 64  # connections that asyncio accepts before any of them can be refused
_MOST_HEAD_BYTES = 65_536  # of a request; cookies of other programs on this machine are in it
_UNANSWERED_SECONDS = 30  # after which TCP gives up a client that is gone
_LOG = logging.getLogger(__name__)


def server_config(app: Any, **options: Any) -> uvicorn.Config:
    """Return the configuration of a server whose connections are limited, and whose log they cannot fill.

    Args:
        options: of uvicorn.Config.
    """
    for name in ("asyncio", "uvicorn.error", __name__):
        logging.getLogger(name).addFilter(once_a_minute)
    return uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        backlog=BACKLOG,
        proxy_headers=False,  # forwarded.py reads them
        h11_max_incomplete_event_size=_MOST_HEAD_BYTES,
        **options,
    )


class Connection(H11Protocol):
    """A connection that is closed unless it makes a request in time.

    Where there are too many, the one that has waited longest for a request gives way to the newest; if all are being
    answered, the newest is refused.
    """

    _deadline: asyncio.TimerHandle | None = None
    _refused = False
    _unsent = 0  # bytes of responses that the client had not read when its time was up

    def connection_made(self, transport: Any) -> None:
        """See asyncio.Protocol."""
        super().connection_made(transport)
        self._since = self.loop.time()
        handle = transport.get_extra_info("socket")
        if hasattr(socket, "TCP_USER_TIMEOUT") and handle.family != socket.AF_UNIX:
            handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNANSWERED_SECONDS * 1000)
        most, descriptors = _limits()
        everyone = [each for each in self.connections if isinstance(each, Connection) and not each.is_closing]
        same = [each for each in everyone if each.address == self.address]
        crowd = same if len(same) > most // 2 else everyone if len(everyone) > most else []
        if crowd and not _close_oldest(crowd, but=self):
            self._refuse("too many connections are open")
        elif handle.fileno() >= descriptors and not _close_oldest(everyone, but=self):
            self._refuse("the server has no descriptors left for connections")
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._stop_watching()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if not self._refused:
            super().data_received(data)
            self._watch()

    def on_response_complete(self) -> None:
        """See H11Protocol."""
        super().on_response_complete()
        self._watch()

    @property
    def address(self) -> str | None:
        """The client's IP address."""
        return self.client[0] if self.client else None

    @property
    def is_answering(self) -> bool:
        """Whether a request is being answered."""
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def is_closing(self) -> bool:
        """Whether the connection is being closed, or was refused."""
        return self._refused or self.transport.is_closing()

    def abort(self) -> None:
        """Close the connection at once."""
        self.transport.abort()

    def _watch(self) -> None:
        """Start the deadline where a request is waited for, and stop it where one is answered."""
        if self.is_answering:
            self._stop_watching()
        elif self._deadline is None:
            self._since, self._unsent = self.loop.time(), 0
            self._deadline = self.loop.call_later(REQUEST_SECONDS, self._end)

    def _stop_watching(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _end(self) -> None:
        self._deadline = None
        before, self._unsent = self._unsent, self.transport.get_write_buffer_size()
        if self._unsent and (not before or self._unsent < before):  # a slow client is reading a response
            self._deadline = self.loop.call_later(REQUEST_SECONDS, self._end)
        else:
            self.abort()

    def _refuse(self, why: str) -> None:
        """Say so, and leave the client until the deadline to read it: if it is closed now, it may read nothing."""
        _LOG.warning("connections are refused: %s", why)
        self._refused = True
        body = json.dumps({"error": f"{why}: try again later"}).encode()
        head = f"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        self.transport.write(head.encode() + b"Connection: close\r\n\r\n" + body)
        refused = [each for each in self.connections if isinstance(each, Connection) and each._refused]
        if len(refused) > BACKLOG:
            self.abort()
        elif self.transport.can_write_eof():
            self.transport.write_eof()


def _close_oldest(crowd: list[Connection], but: Connection) -> bool:
    """Close the connection that has waited longest for a request; return whether there was one."""
    waiting = [each for each in crowd if each is not but and not each.is_answering]
    if not waiting:
        return False
    _LOG.warning("connections that make no request are closed: too many are open")
    min(waiting, key=lambda each: each._since).abort()
    return True


def _limits() -> tuple[int, int]:
    """Return how many connections there may be, and the first descriptor that none may have: the rest is for cameras,
    files and sinks."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    limit = 1 << 20 if limit == resource.RLIM_INFINITY else limit
    return max(2, min(MOST_CONNECTIONS, limit // 4)), limit - min(MOST_CONNECTIONS, limit // 4)
