"""A live source up to a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np

from vlj_edge.runtime.video.part import LiveUntil
from vlj_edge.runtime.video.source import Frame, Source


class Stalling(Source):
    """A live source that gives some frames at once and then nothing more."""

    period, live = 0.25, True

    def __init__(self, times: list[float]) -> None:
        self._times, self._stop = times, threading.Event()

    def frames(self) -> Iterator[Frame]:
        for at in self._times:
            yield Frame(at, np.zeros((4, 4, 3), np.uint8))
        self._stop.wait(60)

    def interrupt(self) -> None:
        self._stop.set()

    def close(self) -> None:
        self._stop.set()


def test_a_live_source_that_gives_nothing_more_ends_with_its_part() -> None:
    started = time.monotonic()
    with LiveUntil(Stalling([0.0, 0.25, 0.5]), 1.0) as source:
        assert [frame.time for frame in source] == [0.0, 0.25, 0.5]
        assert source.incomplete is None
    assert 1.0 <= time.monotonic() - started < 20


def test_a_live_source_ends_with_the_first_frame_behind_its_part() -> None:
    with LiveUntil(Stalling([0.0, 0.5, 1.0, 1.5]), 1.0) as source:
        assert [frame.time for frame in source] == [0.0, 0.5]


def test_no_end_is_too_far_away() -> None:
    source = LiveUntil(Stalling([0.0]), 1e300)
    frames = iter(source)
    assert next(frames).time == 0.0
    source.interrupt()
    assert list(frames) == []
    source.close()


def test_closing_leaves_no_thread() -> None:
    before = set(threading.enumerate())
    source = LiveUntil(Stalling([0.0, 0.25]), 3600.0)
    assert next(iter(source)).time == 0.0
    source.close()
    deadline = time.monotonic() + 10
    while set(threading.enumerate()) - before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not set(threading.enumerate()) - before
