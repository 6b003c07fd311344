"""Server-sent events for every connected page; a page that does not read delays no other."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from typing import Any

import anyio
import numpy as np
import numpy.typing as npt

from vlj_edge.errors import VljEdgeError, without_credentials
from vlj_edge.json_text import json_text
from vlj_edge.results import WindowReport

from ...sinks.alert_event import AlertEvent
from ...sinks.base import AnyEvent, Event
from ...video.recordings.image import encode_jpeg
from ..channel import Channel
from ..station import Station
from .places import Places
from .redact import safe_line

MAX_CLIENTS = 32
MAX_TEXTS = 2000  # of a source that can be saved as a file
_PICTURE_WIDTH = 240
_POLL_INTERVAL = 0.25  # seconds between two checks of the channels
_KEEP_ALIVE = 15.0  # seconds of silence after which a comment is sent, since proxies close silent connections


class Client:
    """One connected page. Its messages wait in a bounded queue; when it is full, the oldest are dropped and counted."""

    def __init__(self, capacity: int) -> None:
        self.queue: deque[bytes] = deque()
        self._capacity = capacity
        self._wake, self._loop = asyncio.Event(), asyncio.get_running_loop()

    def put(self, message: bytes) -> int:
        """Queue a message and return the number of messages dropped for it. Callable from any thread that holds the
        broadcaster's lock."""
        self.queue.append(message)
        dropped = 0
        while len(self.queue) > self._capacity:
            self.queue.popleft()
            dropped += 1
        self.wake()
        return dropped

    def wake(self) -> None:
        """Make wait() return. Callable from any thread."""
        try:
            self._loop.call_soon_threadsafe(self._wake.set)
        except RuntimeError:  # its event loop has ended
            self.queue.clear()

    async def wait(self, seconds: float) -> None:
        """Wait for wake(), at most `seconds`."""
        with anyio.move_on_after(seconds):
            await self._wake.wait()
            self._wake.clear()


class Broadcaster:
    """Sends narrations, window reports and states of a station's sources to all clients.

    Args:
        kept: number of narrations that a new client is sent first.
        capacity: number of messages that wait for one client.

    Attributes:
        shown_names: returns the sources' names as they may be shown, by name.
        latest: returns the newest frame of a source, uint8 [height, width, 3] BGR, or None.
        dropped: number of messages dropped because clients were too slow, over all clients.
        places: one for each client.
    """

    def __init__(self, kept: int = 50, capacity: int = 256) -> None:
        self.shown_names: Callable[[], dict[str, str]] = dict
        self.latest: Callable[[str], npt.NDArray[np.uint8] | None] = lambda source: None
        self._pictures: dict[str, bytes] = {}  # small JPEGs by the event's id, of those that are kept
        self.dropped = 0
        self.places = Places(MAX_CLIENTS, f"{MAX_CLIENTS} pages are listening")
        self._capacity = capacity
        self._kept: deque[tuple[int, bytes]] = deque(maxlen=kept)
        self._texts: dict[str, deque[Event]] = {}  # by shown name
        self._clients: set[Client] = set()
        self._lock = threading.Lock()
        # The epoch marks this run of the server: event ids of an earlier one mean nothing.
        self._number, self._epoch = 0, f"{time.time_ns():x}"
        self._closed = False

    @property
    def clients(self) -> int:
        """Number of connected clients."""
        return len(self._clients)

    def publish_event(self, event: Event) -> None:
        """Send a narration. For Station(on_event=...): callable from any thread, and never waits for a client."""
        self._publish_kept("narration", event)

    def publish_alert(self, event: AlertEvent) -> None:
        """Send what is told of an alert. For Station(on_alert=...): as publish_event()."""
        self._publish_kept("alert", event)

    def picture_of(self, event: str) -> bytes | None:
        """Return the JPEG of a narration that is kept, by its id."""
        return self._pictures.get(event)

    def texts_of(self, shown: str) -> list[Event]:
        """Return the latest texts of a source, by its shown name; the oldest first."""
        with self._lock:
            return list(self._texts.get(shown, ()))

    def publish(self, kind: str, data: dict[str, Any]) -> None:
        """Send a message that later clients do not need."""
        with self._lock:
            self._send(_format_message(kind, data))

    def close(self) -> None:
        """End all clients' streams. Call it before the server is told to end."""
        with self._lock:
            self._closed = True
            for client in self._clients:
                client.wake()

    async def stream(self, last_id: str | None = None) -> AsyncGenerator[bytes, None]:
        """Yield the messages for one client, kept narrations first.

        Args:
            last_id: the id of the last narration that the client has received, if any.
        """
        client = Client(self._capacity)
        with self._lock:
            received = self._number_of(last_id)
            kept = [message for number, message in self._kept if number > received]
            self._clients.add(client)
        try:
            yield b"".join([b"retry: 2000\n\n", *kept])
            while not self._closed:
                await client.wait(_KEEP_ALIVE)
                with self._lock:
                    waiting = list(client.queue)
                    client.queue.clear()
                if not self._closed:
                    yield b"".join(waiting) or b": keep-alive\n\n"
        finally:
            with self._lock:
                self._clients.discard(client)

    async def watch(self, station: Station) -> None:
        """Publish window reports and changes of state of all channels, until this is cancelled."""
        seen: dict[Channel, int] = {}
        states: dict[Channel, tuple[str, str | None]] = {}
        while True:
            channels, shown = station.channels, self.shown_names()
            for name, channel in channels.items():
                count, reports = channel.statistics.reports_after(seen.get(channel, 0))
                seen[channel] = count
                for seconds, report in reports if self._clients else ():
                    self.publish("window", report_as_dict(shown.get(name, name), seconds, report))
                state = (str(channel.state), channel.problem)
                if states.get(channel) != state:
                    states[channel] = state
                    error = None if state[1] is None else safe_line(state[1])
                    self.publish("state", {"source": shown.get(name, name), "state": state[0], "error": error})
            for gone in seen.keys() - set(channels.values()):
                del seen[gone], states[gone]
            await asyncio.sleep(_POLL_INTERVAL)

    def _publish_kept(self, kind: str, event: AnyEvent) -> None:
        shown = self.shown_names().get(event.source, without_credentials(event.source))
        data = event.as_dict() | {"source": shown}
        if isinstance(event, Event):
            data["picture"] = f"/api/events/{event.id}/picture.jpg" if self._keep_picture(event) else None
        with self._lock:
            self._number += 1
            message = _format_message(kind, data, f"{self._epoch}-{self._number}")
            self._kept.append((self._number, message))
            if isinstance(event, Event):
                self._texts.setdefault(shown, deque(maxlen=MAX_TEXTS)).append(event)
            self._send(message)

    def _keep_picture(self, event: Event) -> bool:
        try:
            image = self.latest(event.source)
        except VljEdgeError:  # it is damaged
            image = None
        if image is None:
            return False
        jpeg = encode_jpeg(image, _PICTURE_WIDTH)
        with self._lock:
            self._pictures[event.id] = jpeg
            while len(self._pictures) > (self._kept.maxlen or 0):
                del self._pictures[next(iter(self._pictures))]
        return True

    def _send(self, message: bytes) -> None:
        for client in self._clients:
            self.dropped += client.put(message)

    def _number_of(self, event_id: str | None) -> int:
        epoch, _, number = (event_id or "").partition("-")
        return int(number) if epoch == self._epoch and number.isascii() and number.isdigit() else 0


def report_as_dict(source: str, seconds: float, report: WindowReport) -> dict[str, Any]:
    """Return a window report as plain JSON types."""
    similarity = None if report.similarity is None else round(float(report.similarity), 4)
    found = {"source": source, "time": round(seconds, 3), "similarity": similarity}
    found |= {"resting": report.resting, "spoke": report.spoke}
    return found | ({"label": report.label} if report.label is not None else {})


def _format_message(kind: str, data: dict[str, Any], event_id: str | None = None) -> bytes:
    head = f"id: {event_id}\n" if event_id is not None else ""
    # JSON has no line breaks, so no text can end a message.
    return f"{head}event: {kind}\ndata: {json_text(data)}\n\n".encode("utf-8", "replace")
