"""A camera that tests feed, and a station that is run to its end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from vlj_edge.runtime.service.station import Station
from vlj_edge.runtime.video.source import Frame, Source

Film = Callable[..., Path]


class Camera(Source):
    """A live source: colours one after the other, ten frames a second."""

    live, period = True, 0.1

    def __init__(self, colours: list[tuple[int, int, int]], seconds: float = 2.0, gap_before: float = 0.0) -> None:
        self._colours, self._seconds, self._gap = colours, seconds, gap_before
        self._stop, self.given = threading.Event(), 0

    def frames(self) -> Iterator[Frame]:
        now = 0.0
        for colour in self._colours:
            for _ in range(round(self._seconds / self.period)):
                if self._stop.wait(self.period / 4):
                    return
                self.given += 1
                yield Frame(now, np.full((20, 20, 3), colour, np.uint8))
                now += self.period
            now += self._gap

    def close(self) -> None:
        self._stop.set()


def run(station: Station) -> None:
    station.start()
    station.wait(0.01)
    station.stop()
