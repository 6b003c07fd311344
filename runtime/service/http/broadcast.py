"""What happens, handed to every page that listens; one that does not read holds nobody up."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from typing import Any

from vlj_edge.errors import without_credentials
from vlj_edge.results import WindowReport

from ...sinks.base import Event
from ..channel import Channel
from ..station import Station
from .redact import line_of

MOST_CLIENTS = 32
_LOOK_EVERY = 0.25  # seconds
_COMMENT_EVERY = 15.0  # seconds of silence, after which proxies begin to take a connection for dead


class Client:
    """One page that listens. Messages wait in a queue with an end: beyond it the oldest go, and are counted."""

    def __init__(self, room: int) -> None:
        self.queue: deque[bytes] = deque()
        self.dropped, self._room = 0, room
        self._wake, self._loop = asyncio.Event(), asyncio.get_running_loop()

    def put(self, message: bytes) -> int:
        """Queue it, from any thread, under the hub's lock. How many gave way to it?"""
        self.queue.append(message)
        gone = 0
        while len(self.queue) > self._room:
            self.queue.popleft()
            gone += 1
        self.dropped += gone
        self.wake()
        return gone

    def wake(self) -> None:
        """There is something to see to."""
        try:
            self._loop.call_soon_threadsafe(self._wake.set)
        except RuntimeError:  # its loop has ended, and it with it
            self.queue.clear()

    async def wait(self, seconds: float) -> None:
        """Until there is, or so long."""
        try:
            await asyncio.wait_for(self._wake.wait(), seconds)
        except asyncio.TimeoutError:
            return
        self._wake.clear()


class Broadcaster:
    """Gathers texts, looks and states, and hands them on as server-sent events.

    Args:
        kept: texts that a new client is given first.
        room: messages that wait for one client.

    Attributes:
        names: gives, of sources by their names, what may be shown.
        dropped: messages that clients were too slow for, of all clients there were.
    """

    def __init__(self, kept: int = 50, room: int = 256) -> None:
        self.names: Callable[[], dict[str, str]] = dict
        self.dropped = 0
        self._room = room
        self._kept: deque[tuple[int, bytes]] = deque(maxlen=kept)
        self._clients: set[Client] = set()
        self._lock = threading.Lock()
        self._number, self._epoch = 0, f"{time.time_ns():x}"  # numbers of another run must not be taken for ours
        self._closed = False

    @property
    def clients(self) -> int:
        """That listen now."""
        return len(self._clients)

    @property
    def full(self) -> bool:
        """Are there as many as may be?"""
        return len(self._clients) >= MOST_CLIENTS

    def heard(self, event: Event) -> None:
        """Hand on a text. For Station(heard=...): any thread may call it, and it never waits."""
        shown = self.names().get(event.source, without_credentials(event.source))
        data = event.as_dict() | {"source": shown}
        with self._lock:
            self._number += 1
            message = _message("narration", data, f"{self._epoch}-{self._number}")
            self._kept.append((self._number, message))
            self._hand_on(message)

    def tell(self, kind: str, data: dict[str, Any]) -> None:
        """Hand on something that is worth nothing later."""
        with self._lock:
            self._hand_on(_message(kind, data))

    def close(self) -> None:
        """End all clients' streams; there will be no others. Call it before the server is told to end."""
        with self._lock:
            self._closed = True
            for client in self._clients:
                client.wake()

    async def follow(self, last: str | None = None) -> AsyncGenerator[bytes, None]:
        """The stream of one client.

        Args:
            last: the id of the last text that it has seen; None: it has seen none.
        """
        client = Client(self._room)
        with self._lock:
            seen = self._seen(last)
            before = [message for number, message in self._kept if number > seen]
            self._clients.add(client)
        try:
            yield b"".join([b"retry: 2000\n\n", *before])
            while not self._closed:
                await client.wait(_COMMENT_EVERY)
                with self._lock:
                    waiting = list(client.queue)
                    client.queue.clear()
                if not self._closed:
                    yield b"".join(waiting) or b": still here\n\n"
        finally:
            with self._lock:
                self._clients.discard(client)

    async def watch(self, station: Station) -> None:
        """Gather looks and states, for as long as this is not cancelled."""
        seen: dict[str, tuple[float, WindowReport] | None] = {}
        states: dict[str, tuple[str, str | None]] = {}
        while True:
            shown = self.names()
            for name, channel in list(station.channels.items()):  # a station may become another meanwhile
                fresh = fresh_looks(channel, seen.get(name))
                seen[name] = fresh[-1] if fresh else seen.get(name)
                for time_, look in fresh if self._clients else ():
                    self.tell("look", look_dict(shown.get(name, name), time_, look))
                state = (str(channel.state), channel.error)
                if states.get(name) != state:
                    states[name] = state
                    error = None if channel.error is None else line_of(channel.error)
                    self.tell("state", {"source": shown.get(name, name), "state": state[0], "error": error})
            await asyncio.sleep(_LOOK_EVERY)

    def _hand_on(self, message: bytes) -> None:
        for client in self._clients:
            self.dropped += client.put(message)

    def _seen(self, last: str | None) -> int:
        epoch, _, number = (last or "").partition("-")
        return int(number) if epoch == self._epoch and number.isascii() and number.isdigit() else 0


def look_dict(source: str, at: float, look: WindowReport) -> dict[str, Any]:
    """Plain JSON types."""
    cosine = None if look.cosine is None else round(float(look.cosine), 4)
    return {"source": source, "time": round(at, 3), "cosine": cosine, "resting": look.resting, "spoke": look.spoke} | (
        {"label": look.label} if look.label is not None else {}
    )


def looks_of(channel: Channel) -> list[tuple[float, WindowReport]]:
    """All that are kept. Its thread may be adding one."""
    while True:
        try:
            return list(channel.looks)
        except RuntimeError:  # it changed while it was copied
            continue


def fresh_looks(channel: Channel, seen: tuple[float, WindowReport] | None) -> list[tuple[float, WindowReport]]:
    """Those after that one."""
    looks = looks_of(channel)
    start = next((at + 1 for at in range(len(looks) - 1, -1, -1) if looks[at] is seen), 0)
    return looks[start:]


def _message(kind: str, data: dict[str, Any], number: str | None = None) -> bytes:
    named = f"id: {number}\n" if number is not None else ""
    # JSON has no line ends in it, so that no text can end a message
    return f"{named}event: {kind}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n".encode("utf-8", "replace")
