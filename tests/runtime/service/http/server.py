"""A real server on a free port of this machine, with sources that the tests feed."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import httpx
import numpy as np
import uvicorn
from prometheus_client.parser import text_string_to_metric_families

from tests.runtime.tiny_bundle import BLUE, GREEN, RED, YELLOW
from tests.waiting import wait_for
from vlj_edge.runtime.model import Model
from vlj_edge.runtime.service.http.app import Broadcaster, ServerOptions, build_app
from vlj_edge.runtime.service.http.connections import server_config
from vlj_edge.runtime.service.settings import SourceSettings
from vlj_edge.runtime.service.station import Station
from vlj_edge.runtime.sinks.queue import SinkQueue
from vlj_edge.runtime.video.source import Frame, Source

Colour = tuple[int, int, int]
COLOURS = (RED, BLUE, GREEN, YELLOW)


class Camera(Source):
    """A live source: colours in turn until it is closed, ten frames a second; no two frames are the same."""

    live, period = True, 0.1

    def __init__(self, colours: Sequence[Colour] = COLOURS, seconds: float = 3.0, speed: float = 4) -> None:
        self._colours, self._frames, self._speed = colours, round(seconds / self.period), speed
        self._stop, self._running = threading.Event(), threading.Event()
        self._running.set()
        self.set_state: Callable[[str], None] = lambda state: None

    def frames(self) -> Iterator[Frame]:
        number = 0
        while not self._stop.wait(self.period / self._speed):
            self._running.wait()
            image = np.full((60, 80, 3), self._colours[number // self._frames % len(self._colours)], np.uint8)
            image[50:, : 1 + number % 79] ^= 48  # a bar that grows: little to the model, plain to the eye
            self.set_state("live")
            yield Frame(number * self.period, image)
            number += 1

    def hold(self) -> None:
        """Give no frame until go_on()."""
        self._running.clear()

    def go_on(self) -> None:
        """Undo hold()."""
        self._running.set()

    def close(self) -> None:
        self._stop.set()
        self._running.set()


class Served:
    """A station behind a server in a thread."""

    def __init__(
        self,
        model: Model,
        sources: list[SourceSettings],
        options: ServerOptions,
        sinks: list[SinkQueue],
        port: int,
        **alerts: Any,
    ) -> None:
        self.broadcaster, self.options = Broadcaster(), options
        told = {"on_event": self.broadcaster.publish_event, "on_alert": self.broadcaster.publish_alert}
        self.station = Station(model, sources, sinks, **told, **alerts)
        self.app = build_app(self.station, self.broadcaster, options)
        config = server_config(self.app, port=port, log_level="error", timeout_graceful_shutdown=5)
        self.server = uvicorn.Server(config)
        self._socket = socket.create_server(("127.0.0.1", port))
        self.port = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self.server.serve([self._socket])), name="server", daemon=True
        )

    def start(self) -> Served:
        self.station.start()
        self._thread.start()
        wait_for(lambda: self.server.started)
        return self

    def stop(self) -> None:
        self.stop_serving()
        self.station.stop()

    def stop_serving(self) -> None:
        self.broadcaster.close()
        self.server.should_exit = True
        self._thread.join(120)
        assert not self._thread.is_alive(), "the server does not end"

    def client(self, **headers: str) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers=headers, timeout=30, trust_env=False)

    def last(self, name: str = "cam") -> str | None:
        event = self.station.channels[name].last_event
        return None if event is None else event.narration.text


Serve = Callable[..., Served]


def messages(response: httpx.Response) -> Iterator[tuple[str, dict[str, Any], str | None]]:
    """Kind, data and id of server-sent events."""
    kind, number = "", None
    for line in response.iter_lines():
        name, _, value = line.partition(": ")
        if name == "event":
            kind = value
        elif name == "id":
            number = value
        elif name == "data":
            yield kind, json.loads(value), number
            number = None


def metric(url: str, wanted: str, **labels: str) -> float:
    """The value of one sample of /metrics."""
    text = httpx.get(f"{url}/metrics", trust_env=False).text
    samples = [s for family in text_string_to_metric_families(text) for s in family.samples if s.name == wanted]
    [found] = [sample for sample in samples if labels.items() <= sample.labels.items()]
    return float(found.value)
