"""A recording in real time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from vlj_edge.runtime.video import paced
from vlj_edge.runtime.video.paced import PacedSource
from vlj_edge.runtime.video.source import Frame, Source

IMAGE = np.zeros((1, 1, 3), np.uint8)


class Clock:
    """Time that passes while something waits, and not otherwise."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(paced.time, "monotonic", lambda: self.now)

    def wait(self, seconds: float) -> bool:
        self.now += seconds
        return False


class Recording(Source):
    period, rereadable = 0.5, True

    def __init__(self, times: list[float], clock: Clock | None = None, reading: float = 0.0) -> None:
        self._times, self._clock, self._reading = times, clock, reading
        self.interrupted = self.closed = False

    def frames(self) -> Iterator[Frame]:
        for at in self._times:
            if self._clock is not None:
                self._clock.now += self._reading
            yield Frame(at, IMAGE)
        self.incomplete = "it breaks off"

    def interrupt(self) -> None:
        self.interrupted = True

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def play(recording: Recording, clock: Clock, work: dict[float, float] | None = None) -> list[tuple[float, float]]:
    """Return the time of each frame, and when it came, seconds from the first; `work` is how long one is worked on."""
    source = PacedSource(recording)
    source._stop.wait = lambda timeout: clock.wait(timeout or 0.0)  # type: ignore[method-assign]
    began, found = clock.now, []
    for frame in source:
        found.append((frame.time, clock.now - began))
        clock.now += (work or {}).get(frame.time, 0.0)
    assert source.incomplete == "it breaks off"
    return found


def test_each_frame_comes_at_its_time(clock: Clock) -> None:
    times = [5.0, 5.04, 5.5, 9.0]
    assert play(Recording(times), clock) == [(at, pytest.approx(at - 5.0)) for at in times]
    assert clock.now == pytest.approx(1000 + 4.5), "the last frame lasts for its period"


def test_what_takes_long_delays_only_what_comes_meanwhile(clock: Clock) -> None:
    times = [number / 4 for number in range(9)]
    came = dict(play(Recording(times), clock, work={0.5: 0.6}))
    assert came[0.75] == came[1.0] == pytest.approx(1.1)
    assert [came[at] for at in times[5:]] == pytest.approx(times[5:])


def test_the_lag_stays_below_a_second_however_slow_the_reading_is(clock: Clock) -> None:
    times = [number / 4 for number in range(100)]
    source = PacedSource(Recording(times, clock, reading=0.4))
    source._stop.wait = lambda timeout: clock.wait(timeout or 0.0)  # type: ignore[method-assign]
    for frame in source:
        assert source.origin is not None and -1e-6 < clock.now - source.origin - frame.time < 1.0 + 1e-6


def test_it_ends_at_once_from_another_thread() -> None:
    recording = Recording([0.0, 3600.0])
    source = PacedSource(recording)
    frames = iter(source)
    next(frames)
    threading.Timer(0.1, source.interrupt).start()
    began = time.monotonic()
    assert list(frames) == [] and time.monotonic() - began < 60 and recording.interrupted
    source.close()
    assert recording.closed and source.live and source.rereadable
