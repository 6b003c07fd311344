"""What a server allows, and what all of its routes work with."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from weakref import WeakKeyDictionary

from fastapi import HTTPException

from vlj_edge.bundle import GateSettings
from vlj_edge.errors import VljEdgeError

from ...library import Store
from ...model import Model
from ..channel import Channel, SourceSettings
from ..station import Station
from .broadcast import Broadcaster
from .pictures import Picture
from .readings import Gauge
from .redact import line_of, shown_names

LOCAL = ("localhost", "127.0.0.1", "[::1]")
MOST_VIEWERS = 8  # of moving pictures at once
MOST_CLIPS = 2  # uploads at once


@dataclass(frozen=True)
class Options:
    """What a server allows.

    Attributes:
        token: that every request must have; None: none is asked for.
        hosts: that a request may name in its Host header, without the port; "*" for any.
        most_upload: bytes of one upload.
        most_seconds: of work on one upload.
        store: to search in.
        save: keeps the settings that hold now; says where.
        patience: seconds in which a client must take, or give, the next piece.
    """

    token: str | None = None
    hosts: tuple[str, ...] = LOCAL
    most_upload: int = 100_000_000
    most_seconds: float = 30.0
    store: Store | None = None
    save: Callable[[list[SourceSettings]], str] | None = None
    patience: float = 15.0


class Slots:
    """So many at once, and no more."""

    def __init__(self, most: int, what: str) -> None:
        self.taken, self._most, self._what = 0, most, what
        self._lock = threading.Lock()

    def take(self) -> None:
        """Raises HTTPException: all are taken."""
        with self._lock:
            if self.taken >= self._most:
                raise HTTPException(503, f"{self._what}: try again later")
            self.taken += 1

    def give_back(self) -> None:
        """One is free again."""
        with self._lock:
            self.taken -= 1


@dataclass
class ServerState:
    """What the routes work with.

    Attributes:
        closing: set when the server ends.
    """

    station: Station
    hub: Broadcaster
    options: Options
    model: Model
    first_gates: WeakKeyDictionary[Channel, GateSettings] = field(default_factory=WeakKeyDictionary)
    pictures: WeakKeyDictionary[Channel, Picture] = field(default_factory=WeakKeyDictionary)
    gauge: Gauge = field(default_factory=Gauge)
    viewers: Slots = field(default_factory=lambda: Slots(MOST_VIEWERS, f"{MOST_VIEWERS} look already"))
    clips: Slots = field(default_factory=lambda: Slots(MOST_CLIPS, f"{MOST_CLIPS} clips are worked on already"))
    searches: threading.Lock = field(default_factory=threading.Lock)
    workers: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(MOST_CLIPS, "clip"))
    lock: threading.Lock = field(default_factory=threading.Lock)
    closing: threading.Event = field(default_factory=threading.Event)
    started: float = field(default_factory=time.monotonic)

    @property
    def channels(self) -> dict[str, Channel]:
        """Those there are now, by the names that may be shown."""
        channels = dict(self.station.channels)  # a station may become another
        shown = shown_names(channels)
        return {shown[name]: channel for name, channel in channels.items()}

    def channel(self, name: str) -> Channel:
        """Raises HTTPException: there is none of that name."""
        channels = self.channels
        if name not in channels:
            raise HTTPException(404, "there is no source of that name: /api/state lists them")
        return channels[name]

    def picture(self, name: str) -> Picture:
        """Raises HTTPException: there is none of that name."""
        channel = self.channel(name)
        with self.lock:
            if channel not in self.pictures:
                self.pictures[channel] = Picture(channel)
            return self.pictures[channel]

    def gates(self, channel: Channel) -> GateSettings:
        """That hold now."""
        return channel.wanted.gates or self.model.manifest.gates

    def gates_at_first(self, channel: Channel) -> GateSettings:
        """That held before the page changed them: thresholds that belong together keep their distance in them."""
        with self.lock:
            return self.first_gates.setdefault(channel, self.gates(channel))


def server_state(station: Station, hub: Broadcaster, options: Options) -> ServerState:
    """Also tells the hub how sources are named here."""
    hub.names = lambda: shown_names(dict(station.channels))
    return ServerState(station, hub, options, station.model)


@contextmanager
def told(clip: Path | None = None) -> Iterator[None]:
    """What a person can mend, as an answer: 422 with one line."""
    try:
        yield
    except VljEdgeError as error:
        raise HTTPException(422, line_of(error, clip)) from None
