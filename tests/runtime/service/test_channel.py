"""A channel applies each change of its settings exactly once, and stops even if its source blocks."""

from __future__ import annotations

import errno
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.runtime.tiny_bundle import BLUE, RED
from tests.waiting import wait_for
from vlj_edge import VljEdgeError
from vlj_edge.bundle import GateSettings
from vlj_edge.results import Narration, Totals
from vlj_edge.runtime.model import Model
from vlj_edge.runtime.service import channel as channels
from vlj_edge.runtime.service.channel import Channel
from vlj_edge.runtime.service.channel_context import ChannelContext
from vlj_edge.runtime.service.settings import SourceSettings
from vlj_edge.runtime.service.station import Station
from vlj_edge.runtime.sinks.base import Event
from vlj_edge.runtime.video.source import Frame, Source

IMAGE = np.zeros((1, 1, 3), np.uint8)


class FakeModel:
    """Records which query each frame was narrated with; every frame gives a text."""

    manifest = SimpleNamespace(clip=SimpleNamespace(frames_per_second=4), gates=GateSettings())
    chain = SimpleNamespace(query=lambda text: None)

    def __init__(self, at_start: Callable[[], None] = lambda: None) -> None:
        self.at_start = at_start
        self.runs: list[str | None] = []
        self.narrated: list[tuple[float, str | None]] = []

    def narrate(self, frames: Any, query: str | None, **how: object) -> Any:
        self.at_start()
        self.runs.append(query)
        model = self

        class FakeRun:
            totals = Totals()

            def __iter__(self) -> Iterator[Narration]:
                for frame in frames:
                    model.narrated.append((frame.time + frames.offset, query))
                    yield Narration(frame.time, frame.time, f"{query}", "decoder")

            def close(self) -> None:
                pass

        return FakeRun()


class Steps(Source):
    """A live source that calls a function before each of its frames, which are a quarter of a second apart."""

    live, period = True, 0.25

    def __init__(self, count: int, before: Callable[[int], None]) -> None:
        self._count, self._before = count, before

    def frames(self) -> Iterator[Frame]:
        for number in range(self._count):
            self._before(number)
            yield Frame(number / 4, IMAGE)


def channel_of(model: Any, on_event: Callable[[Event], None] = lambda event: None) -> Channel:
    context = ChannelContext(model, lambda labels: None, on_event, lambda *report: None, lambda *error: None, False)  # type: ignore[arg-type, return-value]
    return Channel(SourceSettings("a", "a", "0"), context)


def run_here(channel: Channel, source: Source) -> None:
    """Run the channel in this thread, so that changes come exactly where a test wants them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(channels, "open_source", lambda *rest, **options: source)
        channel._work()


@given(
    before_frames=st.lists(st.integers(0, 2), min_size=1, max_size=8),
    at_starts=st.lists(st.integers(0, 2), max_size=8),
    before_first=st.integers(0, 2),
)
def test_every_frame_is_narrated_once_with_the_settings_of_its_time(
    before_frames: list[int], at_starts: list[int], before_first: int
) -> None:
    changes, seen = 0, list[int]()

    def change(times: int) -> None:
        nonlocal changes
        for _ in range(times):
            changes += 1
            channel.apply(replace(channel.settings, query=str(changes)))

    starts = iter(at_starts)
    model = FakeModel(at_start=lambda: change(next(starts, 0)))
    source = Steps(len(before_frames), lambda number: change(before_frames[number]))
    channel = channel_of(model, on_event=lambda event: seen.append(changes))
    change(before_first)
    run_here(channel, source)
    assert channel.error is None
    assert [seconds for seconds, _ in model.narrated] == [number / 4 for number in range(len(before_frames))]
    assert [query for _, query in model.narrated] == [str(count) for count in seen]
    assert len(set(model.runs)) == len(model.runs), "no settings began two runs"
    change(1)
    assert channel.settings.query == str(changes) and channel.state == "ended"


@settings(max_examples=15)
@given(pauses=st.lists(st.integers(0, 3), min_size=1, max_size=30))
def test_changes_from_another_thread_are_neither_lost_nor_repeated(pauses: list[int]) -> None:
    changed = threading.Event()

    def before(number: int) -> None:
        if number == 199:
            changed.wait(30)
        time.sleep(1e-4)

    def change() -> None:
        for number, pause in enumerate(pauses, 1):
            time.sleep(pause / 1000)
            channel.edit(lambda now, number=number: replace(now, query=str(number)))  # type: ignore[misc]
        changed.set()

    model = FakeModel()
    channel = channel_of(model)
    changing = threading.Thread(target=change)
    changing.start()
    run_here(channel, Steps(200, before))
    changing.join(30)
    assert channel.error is None
    assert [seconds for seconds, _ in model.narrated] == [number / 4 for number in range(200)]
    queries = [int(query or 0) for _, query in model.narrated]
    assert queries == sorted(queries) and queries[-1] == len(pauses)
    assert len(set(model.runs)) == len(model.runs)


def test_changes_in_a_row_begin_one_run() -> None:
    def before(number: int) -> None:
        if number == 2:
            for count in range(1, 51):
                channel.edit(lambda now, count=count: replace(now, query=str(count)))  # type: ignore[misc]

    model = FakeModel()
    channel = channel_of(model)
    run_here(channel, Steps(4, before))
    assert model.runs == ["0", "50"]


def test_edits_from_several_threads_keep_each_others_changes() -> None:
    channel = channel_of(FakeModel())
    threads = [
        threading.Thread(target=channel.edit, args=(lambda now, n=n: replace(now, labels=(*now.labels, str(n))),))
        for n in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(channel.settings.labels, key=int) == [str(n) for n in range(20)]


class Blocks(Source):
    """Gives ten frames, then its read does not return: until interrupt(), until close(), or never."""

    live, period = True, 0.1

    def __init__(self, until: str) -> None:
        self.until, self.released, self.blocked = until, threading.Event(), threading.Event()

    def frames(self) -> Iterator[Frame]:
        for number in range(10):
            yield Frame(number / 10, np.full((20, 20, 3), RED, np.uint8))
        self.blocked.set()
        self.released.wait(60)

    def interrupt(self) -> None:
        if self.until == "interrupt":
            self.released.set()

    def close(self) -> None:
        if self.until == "close":
            self.released.set()


class Fails(Blocks):
    """Raises an error that is none of vlj-edge's."""

    def frames(self) -> Iterator[Frame]:
        yield Frame(0.0, np.full((20, 20, 3), RED, np.uint8))
        self.blocked.set()
        raise RuntimeError("the driver failed")


@pytest.mark.parametrize("until", ["interrupt", "close", "never", "it fails"])
def test_stop_does_not_wait_for_the_source(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, until: str) -> None:
    source = Fails(until) if until == "it fails" else Blocks(until)
    monkeypatch.setattr(channels, "open_source", lambda *rest, **options: source)
    with Model(tiny_bundle) as model:
        station = Station(model, [SourceSettings("a", "a")])
        station.start()
        assert source.blocked.wait(30)
        began = time.monotonic()
        station.stop()
        assert time.monotonic() - began < 5, "far less than the source blocks"
        channel = station.channels["a"]
        assert channel.join(10) and channel.state == "ended"
        assert ("the driver failed" in (channel.error or "")) == (until == "it fails")
        source.released.set()


class Endless(Source):
    """Colours in turn, as fast as they are read."""

    live, period = True, 0.1

    def frames(self) -> Iterator[Frame]:
        number = 0
        while True:
            yield Frame(number / 10, np.full((20, 20, 3), (RED, BLUE)[number // 30 % 2], np.uint8))
            number += 1
            time.sleep(1e-3)


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(milliseconds=st.integers(0, 300), changes=st.booleans())
def test_a_stopped_station_leaves_no_thread(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, milliseconds: int, changes: bool
) -> None:
    before = set(threading.enumerate())
    monkeypatch.setattr(channels, "open_source", lambda *rest, **options: Endless())
    with Model(tiny_bundle) as model:
        station = Station(model, [SourceSettings("a", "a"), SourceSettings("b", "b")])
        station.start()
        time.sleep(milliseconds / 1000)
        if changes:
            station.reconfigure([SourceSettings("b", "b", "what colour is it"), SourceSettings("c", "c")])
        station.stop()
        assert all(channel.join(30) and channel.error is None for channel in station.channels.values())
    deadline = time.monotonic() + 10
    while set(threading.enumerate()) - before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not set(threading.enumerate()) - before


FAILURES = (
    OSError(errno.EMFILE, "Too many open files"),
    MemoryError(),
    RuntimeError("can't start new thread"),
    VljEdgeError("the backend failed: try another"),
)


@pytest.mark.parametrize("when", ["it is opened", "a run starts", "a frame is read"])
def test_only_stop_ends_a_live_source(
    when: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "vlj_edge")
    monkeypatch.setattr(channels, "_PAUSES", (0.01,))
    failures, opened, heard = list(FAILURES), list[Endless](), list[Event]()

    def fail(place: str) -> None:
        if place == when and opened and failures:
            raise failures.pop(0)

    class Failing(Endless):
        def frames(self) -> Iterator[Frame]:
            for frame in super().frames():
                fail("a frame is read")
                yield frame

    def open_source(*_: object, on_state: Callable[[str], None], **__: object) -> Source:
        fail("it is opened")
        opened.append(Failing())
        on_state("live")
        if when == "it is opened" and failures:  # what was open has to fail to be opened again
            opened[-1].frames = lambda: iter([])  # type: ignore[method-assign]
            raise failures.pop(0)
        return opened[-1]

    monkeypatch.setattr(channels, "open_source", open_source)
    model = FakeModel(lambda: fail("a run starts"))
    context = ChannelContext(model, lambda labels: None, heard.append, lambda *_: None, lambda *_: None, True)  # type: ignore[arg-type, return-value]
    channel = Channel(SourceSettings("door", "door"), context)
    if when == "it is opened":
        failures.remove(FAILURES[-1])  # an error of ours at the first opening is a mistake in the address
    channel.start()
    wait_for(lambda: not failures and len(heard) > 3)
    assert channel.error is None and channel.problem is None and channel.state == "live"
    lost = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert any("Too many open files" in line for line in lost) and all("door" in line for line in lost)
    assert any("again" in record.getMessage() for record in caplog.records)
    channel.stop()
    assert channel.join(10) and channel.state == "ended"
    numbers = [event.number for event in heard]
    assert numbers == list(range(1, len(numbers) + 1)), "numbered on"


def test_while_it_fails_its_state_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "_PAUSES", (60.0,))
    monkeypatch.setattr(channels, "open_source", lambda *_, **__: Endless())

    def fail() -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    context = ChannelContext(
        FakeModel(fail), lambda labels: None, lambda *_: None, lambda *_: None, lambda *_: None, True
    )  # type: ignore[arg-type, return-value]
    channel = Channel(SourceSettings("door", "door"), context)
    channel.start()
    wait_for(lambda: channel.state == "lost")
    assert "Cannot allocate memory" in (channel.problem or "") and channel.error is None
    began = time.monotonic()
    channel.stop()
    assert channel.join(10) and time.monotonic() - began < 30, "a pause is cut short"


def test_a_camera_that_comes_back_after_minutes_is_not_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    channel = channel_of(FakeModel())
    frames = SimpleNamespace(first_at=1000.0)
    source = SimpleNamespace(source=SimpleNamespace(live=True), latest_at=1001.0)
    channel._source, channel._frames = source, frames  # type: ignore[assignment]
    channel.statistics.last_window_at = 10.0
    assert not channel.is_stuck(), "its new run is a second old"
    source.latest_at = 1061.0
    assert channel.is_stuck()
    channel.statistics.last_window_at = 1060.0
    assert not channel.is_stuck()
    channel.statistics.last_window_at, channel._frames = 10.0, SimpleNamespace(first_at=None)  # type: ignore[assignment]
    assert not channel.is_stuck(), "its new run has no frame yet"
