"""Sources that are slow, that fail or that block, and how to start, cut short and wait for a run."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from tests.runtime.tiny_bundle import BLUE, GREEN, RED
from vlj_edge.runtime.model import Model
from vlj_edge.runtime.stream.run import Run
from vlj_edge.runtime.video.source import Frame, Source

DEMO = Path(__file__).parents[2] / "examples" / "media" / "demo.mp4"
PROMPT = 20.0  # seconds; closing takes less than one, and a busy machine may take its time
COLOURS = (RED, BLUE, GREEN)


class Colours(Source):
    """A colour a second, 4 frames a second, `pause` seconds of real time apart; `fail` is raised at frame `fail_at`."""

    period = 0.25

    def __init__(
        self, seconds: int = 100_000, pause: float = 0.0, live: bool = False, fail_at: int = -1, colours: Any = COLOURS
    ) -> None:
        self.live, self._seconds, self._pause, self._fail_at, self._colours = live, seconds, pause, fail_at, colours
        self._stop = threading.Event()
        self.closed = 0
        self.reading: threading.Thread | None = None

    def frames(self) -> Iterator[Frame]:
        self.reading = threading.current_thread()
        for number in range(4 * self._seconds):
            if number == self._fail_at:
                raise RuntimeError("the camera burns")
            if self._pause and self._stop.wait(self._pause):
                return
            yield Frame(number / 4, np.full((20, 30, 3), self._colours[number // 4 % len(self._colours)], np.uint8))

    def interrupt(self) -> None:
        self._stop.set()

    def close(self) -> None:
        self.closed += 1


class Blocked(Colours):
    """Gives `count` frames and then blocks in read until it is closed."""

    def __init__(self, count: int = 8) -> None:
        super().__init__()
        self._count, self.released = count, threading.Event()

    def frames(self) -> Iterator[Frame]:
        for number, frame in enumerate(super().frames()):
            if number == self._count:
                self.released.wait(60)
            yield frame

    def close(self) -> None:
        super().close()
        self.released.set()


def workers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("vlj-edge")]


def nothing_runs() -> None:
    assert not workers()


def start(model: Model, call: str, source: Source) -> Run[Any]:
    if call == "ask":
        return model.ask(source, ["what colour", "what is shown"])
    return getattr(model, call)(source, every_window=True)  # type: ignore[no-any-return]


def first(count: int, run: Run[Any]) -> list[Any]:
    with run:
        return list(islice(run, count))


CALLS = ("narrate", "embed", "ask")
