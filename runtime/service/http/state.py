"""The limits of a server, and the state that its routes share."""

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
from ..channel import Channel
from ..settings import SourceSettings
from ..station import Station
from .broadcast import Broadcaster
from .images import LatestJpeg
from .places import Places
from .readings import PowerMeter
from .redact import safe_line, shown_names

LOCAL_HOSTS = ("localhost", "127.0.0.1", "[::1]")
MAX_VIEWERS = 8  # video streams at the same time
MAX_CLIPS = 2  # uploads at the same time
MAX_SEARCHES = 8  # each waits in one of the threads that answer the other requests, too


@dataclass(frozen=True)
class ServerOptions:
    """The limits of a server.

    Attributes:
        token: required of every request; None if none is.
        hosts: names that a request's Host header may have, without the port; "*" for any.
        allowed_hosts: further such names, with or without a port, as a proxy in front has them.
        trusted_proxies: IP addresses and networks of proxies whose forwarded headers count.
        max_upload: bytes of one upload.
        max_seconds: of work on one upload.
        store: searched by /api/search; None if there is none.
        save: saves the settings of all sources and returns the file's name; None if they cannot be saved.
        patience: seconds within which a client must read, or send, the next piece.
    """

    token: str | None = None
    hosts: tuple[str, ...] = LOCAL_HOSTS
    allowed_hosts: tuple[str, ...] = ()
    trusted_proxies: tuple[str, ...] = ()
    max_upload: int = 100_000_000
    max_seconds: float = 30.0
    store: Store | None = None
    save: Callable[[list[SourceSettings]], str] | None = None
    patience: float = 15.0


@dataclass
class ServerState:
    """What the routes share.

    Attributes:
        first_gates: the gates that each channel had before they were first changed here.
        closing: set when the server ends.
        started: time.monotonic() of the start.
    """

    station: Station
    broadcaster: Broadcaster
    options: ServerOptions
    model: Model
    first_gates: WeakKeyDictionary[Channel, GateSettings] = field(default_factory=WeakKeyDictionary)
    jpegs: WeakKeyDictionary[Channel, LatestJpeg] = field(default_factory=WeakKeyDictionary)
    power_meter: PowerMeter = field(default_factory=PowerMeter)
    viewers: Places = field(default_factory=lambda: Places(MAX_VIEWERS, f"{MAX_VIEWERS} viewers are connected"))
    clips: Places = field(default_factory=lambda: Places(MAX_CLIPS, f"{MAX_CLIPS} clips are being processed"))
    searches: Places = field(default_factory=lambda: Places(MAX_SEARCHES, f"{MAX_SEARCHES} searches are waiting"))
    searching: threading.Lock = field(default_factory=threading.Lock)
    workers: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(MAX_CLIPS, "clip"))
    lock: threading.Lock = field(default_factory=threading.Lock)
    closing: threading.Event = field(default_factory=threading.Event)
    started: float = field(default_factory=time.monotonic)

    @property
    def channels(self) -> dict[str, Channel]:
        """The current channels, by the names that may be shown."""
        channels = self.station.channels
        shown = shown_names(channels)
        return {shown[name]: channel for name, channel in channels.items()}

    def channel(self, name: str) -> Channel:
        """Return the channel of that name. Raises HTTPException: 404."""
        channels = self.channels
        if name not in channels:
            raise HTTPException(404, "no source has this name: /api/state lists them")
        return channels[name]

    def latest_jpeg(self, name: str) -> LatestJpeg:
        """Return the JPEG maker of the channel of that name. Raises HTTPException: 404."""
        channel = self.channel(name)
        with self.lock:
            if channel not in self.jpegs:
                self.jpegs[channel] = LatestJpeg(channel)
            return self.jpegs[channel]

    def gates_of(self, settings: SourceSettings) -> GateSettings:
        """Return the gates of these settings: their own, or the bundle's."""
        return settings.gates or self.model.manifest.gates

    def first_gates_of(self, channel: Channel) -> GateSettings:
        """Return the gates that the channel had before they were first changed here."""
        with self.lock:
            return self.first_gates.setdefault(channel, self.gates_of(channel.settings))


def make_state(station: Station, broadcaster: Broadcaster, options: ServerOptions) -> ServerState:
    """Return the state of a new server; the broadcaster shows sources by the same names, and their pictures."""
    broadcaster.shown_names = lambda: shown_names(station.channels)
    broadcaster.latest = station.latest_image
    return ServerState(station, broadcaster, options, station.model)


@contextmanager
def user_errors_as_422(clip: Path | None = None) -> Iterator[None]:
    """Turn a VljEdgeError into a response: 422 with its line, in which `clip` is called "the clip"."""
    try:
        yield
    except VljEdgeError as error:
        raise HTTPException(422, safe_line(error, clip)) from None
