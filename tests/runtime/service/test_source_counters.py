"""Counters of sources never go back, whoever reads them, and whatever is closed and opened meanwhile."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.runtime.video.fake_camera import fake_camera
from tests.waiting import wait_for
from vlj_edge.runtime.model import Model
from vlj_edge.runtime.service import channel as channels
from vlj_edge.runtime.service.resumable import ResumableSource
from vlj_edge.runtime.service.settings import SourceSettings
from vlj_edge.runtime.service.station import Station
from vlj_edge.runtime.service.statistics import SourceCounters
from vlj_edge.runtime.video.cameras.camera import CameraSource
from vlj_edge.runtime.video.source import Frame, Source


@contextmanager
def read_all_the_time(read: Callable[[], Any]) -> Iterator[list[Any]]:
    """Read in a thread of its own, which gets its turn as often as possible; the value is what it read."""
    found, stop, before = list[Any](), threading.Event(), sys.getswitchinterval()

    def work() -> None:
        while not stop.is_set():
            found.append(read())

    thread = threading.Thread(target=work)
    sys.setswitchinterval(1e-6)
    thread.start()
    try:
        yield found
    finally:
        stop.set()
        thread.join(60)
        sys.setswitchinterval(before)


class ReplacedMeanwhile(CameraSource):
    """A camera whose reader is closed by another thread while its frames are counted."""

    @property
    def _bad_before(self) -> int:
        closing = vars(self).pop("closing", None)
        if closing is not None:
            closing.start()
            closing.join(0.2)  # which it cannot do as long as this holds the lock
        return int(vars(self)["before"])

    @_bad_before.setter
    def _bad_before(self, count: int) -> None:
        vars(self)["before"] = count


def test_a_reader_that_is_replaced_while_it_is_counted_counts_once(tmp_path: Path) -> None:
    camera = fake_camera(tmp_path, "", keep_trying=True)
    camera.__class__ = ReplacedMeanwhile
    camera._bad_before = 4
    camera._reader = SimpleNamespace(bad=3, close=lambda: None)  # type: ignore[assignment]
    vars(camera)["closing"] = closing = threading.Thread(target=camera._close_reader)
    assert camera.bad == 7
    closing.join(60)
    assert camera.bad == 7 and camera._reader is None


class Bad(Source):
    """A source that has counted bad frames."""

    live, period, bad = True, 0.1, 2

    def frames(self) -> Iterator[Frame]:
        return iter(())


def test_sources_that_are_opened_again_are_added_up() -> None:
    counters = SourceCounters()
    assert counters.counts() == {"bad_frames": 0}, "nothing is open"
    with read_all_the_time(lambda: counters.counts()["bad_frames"]) as found:
        for _ in range(2_000):
            counters.begin(ResumableSource(Bad()))
            counters.end()
            counters.end()
    assert counters.counts() == {"bad_frames": 4_000}
    assert all(one <= other for one, other in pairwise(found))


def test_a_camera_that_fails_and_is_opened_again_goes_on_counting(
    model: Model, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(channels, "_PAUSES", (0.01,))
    opened = list[CameraSource]()

    def open_source(uri: str, on_state: Callable[[Any], None], **_: object) -> Source:
        folder = tmp_path / str(len(opened))
        folder.mkdir()
        camera = fake_camera(folder, "if tries > 1: frames(2000)", keep_trying=True, on_state=on_state)
        opened.append(camera)
        camera.restarts = 5
        return camera

    monkeypatch.setattr(channels, "open_source", open_source)
    station = Station(model, [SourceSettings("door", "door")], keep_trying=True)
    channel = station.channels["door"]
    station.start()
    wait_for(lambda: channel.counts()["windows"] > 0)
    before = channel.counts()
    with read_all_the_time(lambda: channel.counts()["restarts"]) as found:
        opened[0]._reader.next = None  # type: ignore  # a mistake inside vlj-edge
        wait_for(lambda: len(opened) == 2)
        wait_for(lambda: channel.counts()["restarts"] >= 10)
    station.stop()
    assert before["restarts"] >= 5 and "frames_dropped" in before
    assert all(one <= other for one, other in pairwise(found))
