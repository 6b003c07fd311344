"""Fixtures that start servers. They import server.py where they run: what it needs may not be installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from vlj_edge.runtime.model import Model
from vlj_edge.runtime.service import channel as channels
from vlj_edge.runtime.service.settings import SourceSettings
from vlj_edge.runtime.sinks.queue import SinkQueue
from vlj_edge.runtime.video.source import Source

if TYPE_CHECKING:
    from tests.runtime.service.http.server import Serve, Served


@pytest.fixture(scope="session")
def model(tiny_bundle: Path) -> Model:
    return Model(tiny_bundle)


@pytest.fixture
def cameras(monkeypatch: pytest.MonkeyPatch) -> dict[str, Source]:
    """Sources by URI, in place of those that open_source() makes."""
    from tests.runtime.service.http.server import Camera

    made: dict[str, Source] = {}
    real = channels.open_source

    def open_source(uri: str, on_state: Callable[[str], None], **how: Any) -> Source:
        source = made.get(uri)
        if isinstance(source, Camera):
            source.set_state = on_state
        return source or real(uri, on_state=on_state, **how)

    monkeypatch.setattr(channels, "open_source", open_source)
    return made


@pytest.fixture
def serve(model: Model, cameras: dict[str, Source]) -> Iterator[Serve]:
    """serve(SourceSettings..., sinks=[...], port=0, option=value...) -> a running server, of one camera by default."""
    from tests.runtime.service.http.server import Camera, Served
    from vlj_edge.runtime.service.http.app import ServerOptions

    running: list[Served] = []

    def start(*sources: SourceSettings, sinks: Sequence[SinkQueue] = (), port: int = 0, **options: Any) -> Served:
        if not sources:
            cameras["cam"] = Camera()
            sources = (SourceSettings("cam", "cam"),)
        alerts = {name: options.pop(name) for name in ("alerts", "journal") if name in options}
        running.append(Served(model, list(sources), ServerOptions(**options), list(sinks), port, **alerts))
        return running[-1].start()

    yield start
    for served in running:
        served.stop()
