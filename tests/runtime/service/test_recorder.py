"""What a service has seen can be searched, in a store that does not grow for ever."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.runtime import tiny_bundle as by_hand
from tests.runtime.library.moments import random_moments
from tests.runtime.tiny_bundle import BLUE, RED
from vlj_edge import VljEdgeError
from vlj_edge.results import Window, WindowReport
from vlj_edge.runtime.library import Store, search
from vlj_edge.runtime.library.index import stat_video
from vlj_edge.runtime.library.moments import reading_of
from vlj_edge.runtime.model import Model
from vlj_edge.runtime.service.channel_context import ReportedWindow
from vlj_edge.runtime.service.recorder import Recorder, Retention
from vlj_edge.runtime.service.settings import SourceSettings
from vlj_edge.runtime.service.station import Station
from vlj_edge.runtime.video.part import Part

QUERY = "what colour is it"


@pytest.mark.parametrize("real_time", [False, True])
def test_recorded_windows_are_found(
    tiny_bundle: Path, make_video: Callable[..., Path], tmp_path: Path, real_time: bool
) -> None:
    model = Model(tiny_bundle)
    film = make_video([(RED, 3), (BLUE, 3)])
    recorder = Recorder(Store(tmp_path / "seen", model.manifest, QUERY, write=True), QUERY, pause=0.05)
    sources = [SourceSettings("door", str(film), QUERY), SourceSettings("other", str(film), "describe")]
    station = Station(model, sources, on_report=recorder.add, real_time=real_time)
    station.start()
    station.wait(0.01)
    station.stop()
    recorder.close()
    recorder.close()
    store = Store(tmp_path / "seen", model.manifest)
    assert recorder.stored == len(store)
    assert 0 < station.channels["door"].counts()["predictor_runs"] <= len(store) <= 11, "less than windows"
    [red] = search(store, model.embed_text("red"), top=1)
    assert red.file == str(film) and red.score > 0.9 and (red.start, red.end) == (0, pytest.approx(3, abs=1))
    assert red.thumbnail is not None and red.thumbnail[:2] == b"\xff\xd8"
    assert len(store) == len({hit.start for hit in store.nearest(model.embed_text("red"), 100)}), (
        "what was asked another question cannot be compared"
    )


def window(
    name: str,
    start: float,
    colour: tuple[int, int, int],
    clock: float,
    uri: str = "rtsp://camera/1",
    offset: float = 0.0,
) -> ReportedWindow:
    """A window of a second of one colour; of a camera, or of a recording if `uri` is a path."""
    report = WindowReport(Window(0, start, start + 1), None, False, True, by_hand.embedding_of(colour, QUERY))
    noise = np.random.default_rng(round(clock)).integers(-40, 40, (48, 64, 3))
    image = np.clip(np.add(colour, noise), 0, 255).astype(np.uint8)  # no two thumbnails are alike
    return ReportedWindow(SourceSettings(name, uri, QUERY), clock, report, offset, "://" in uri, lambda: image)


def record(store: Store, windows: list[ReportedWindow], retention: Retention | None = None) -> None:
    """Let a recorder store these windows, and close the store."""
    recorder = Recorder(store, QUERY, retention or Retention(), pause=3600)
    for each in windows:
        recorder.add(each)
    recorder.close()
    assert recorder.last_error is None


def bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def count(opened: Callable[[], Store]) -> int:
    with opened() as store:
        return len(store)


@pytest.fixture
def opened(tiny_bundle: Path, tmp_path: Path) -> Callable[[], Store]:
    model = Model(tiny_bundle)
    return lambda: Store(tmp_path / "seen", model.manifest, QUERY, write=True)


def test_a_camera_is_named_with_its_time(opened: Callable[[], Store]) -> None:
    record(opened(), [window("door", at, RED if at < 2 else BLUE, 1_700_000_001 + at) for at in range(4)])
    store = opened()
    [path] = store.videos()
    assert path == "door 2023-11-14T22:13:20.000+00:00"
    [found] = search(store, by_hand.embedding_of(BLUE, QUERY), top=1)
    assert (found.file, found.start, found.end) == (path, 2, 4)
    store.close()


def test_a_recording_that_begins_again_is_stored_once_in_its_own_times(
    opened: Callable[[], Store], tmp_path: Path
) -> None:
    film = tmp_path / "film.mp4"
    film.write_bytes(b"1")
    played = [window("film", at, RED if at < 10 else BLUE, at, str(film), offset=60) for at in range(20)]
    record(opened(), played[:5])
    record(opened(), played[3:15] + played)
    record(opened(), played)
    store = opened()
    assert len(store) == 20 and set(store.videos()) == {str(film)} and store.indexed() == {}
    [found] = search(store, by_hand.embedding_of(BLUE, QUERY), top=1)
    assert (found.start, found.end) == (70, 80)
    film.write_bytes(b"another film")
    record(store, played[:7])
    store = opened()
    assert len(store) == 7, "it has changed"
    store.close()


def test_another_part_of_a_recording_is_stored_in_place_of_the_first(
    opened: Callable[[], Store], tmp_path: Path
) -> None:
    film = tmp_path / "film.mp4"
    film.write_bytes(b"1")

    def played(first: float, last: float, part: Part) -> list[ReportedWindow]:
        each = [window("film", at, RED, at, str(film)) for at in np.arange(first, last)]
        return [replace(one, settings=replace(one.settings, part=part)) for one in each]

    for part, first, last in ((Part(start=4), 4, 9), (Part(), 0, 12), (Part(frames_per_second=2), 0, 3)):
        record(opened(), played(first, last, part))
        record(opened(), played(first, last, part))
        with opened() as store:
            [video] = store.videos().values()
            hits = store.nearest(by_hand.embedding_of(RED, QUERY), 100)
            assert video.reading == reading_of(part) and sorted(hit.start for hit in hits) == [*np.arange(first, last)]


def test_an_indexed_video_is_not_stored_again(opened: Callable[[], Store], tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    film.write_bytes(b"1")
    store = opened()
    video = stat_video(film)
    store.put(replace(random_moments(str(film), 40), video=video))
    record(store, [window("film", at, RED, at, str(film)) for at in range(9)])
    store = opened()
    assert len(store) == 40 and store.indexed() == {str(film): video}
    store.close()


def test_what_is_old_goes_and_indexed_videos_stay(opened: Callable[[], Store]) -> None:
    day, now = 86400.0, time.time()
    store = opened()
    store.put(random_moments("/indexed.mp4", 40))
    record(store, [window("door", at, RED, now - 9 * day + at) for at in range(9)])
    record(opened(), [window("door", at, BLUE, now - 3 * day + at) for at in range(5)])
    record(opened(), [], Retention(days=10))
    assert count(opened) == 54
    record(opened(), [], Retention(days=5))
    assert count(opened) == 45
    record(opened(), [], Retention(days=0.5))
    assert count(opened) == 40


def test_the_oldest_goes_where_the_store_is_too_large(opened: Callable[[], Store], tmp_path: Path) -> None:
    store = opened()
    store.put(random_moments("/indexed.mp4", 1000))
    for minute in range(40):
        record(store, [window("door", at, RED, 60 * minute + at) for at in range(10)])
        store = opened()
    used = bytes_in(tmp_path)
    record(store, [], Retention(gigabytes=300e3 / 1e9))
    assert bytes_in(tmp_path) < min(used, 400e3)
    store = opened()
    kept = sorted(path for path in store.videos() if path.startswith("door"))
    assert 20 < len(kept) < 40 and kept[-1] == "door 1970-01-01T00:38:59.000+00:00", "the newest"
    record(store, [], Retention(gigabytes=1e-9))
    store = opened()
    assert set(store.videos()) == {"/indexed.mp4"} and len(store) == 1000
    store.close()


def test_a_store_that_cannot_be_written_is_tried_again(
    tiny_bundle: Path,
    make_video: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "vlj_edge")
    model = Model(tiny_bundle)
    store = Store(tmp_path / "seen", model.manifest, QUERY, write=True)
    real, failures = store.append, [VljEdgeError("the disk is full"), MemoryError(), VljEdgeError("the disk is full")]

    def append(moments: object, recorded: float) -> None:
        if failures:
            raise failures.pop()
        real(moments, recorded)  # type: ignore[arg-type]

    monkeypatch.setattr(store, "append", append)
    recorder = Recorder(store, QUERY, pause=0.05)
    station = Station(model, [SourceSettings("door", str(make_video([(RED, 3)])), QUERY)], on_report=recorder.add)
    station.start()
    station.wait(0.01)
    station.stop()
    until = time.monotonic() + 10
    while recorder.stored == 0 and time.monotonic() < until:
        time.sleep(0.02)
    recorder.close()
    assert recorder.stored == len(Store(tmp_path / "seen", model.manifest)) > 0 == recorder.lost
    assert recorder.last_error == "the disk is full"
    told = [record.getMessage() for record in caplog.records if record.name.endswith(".recorder")]
    assert len(told) == 2 and "the disk is full" in told[0] and "again" in told[1]


def test_what_could_not_be_written_at_the_end_is_counted(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = Model(tiny_bundle)
    store = Store(tmp_path / "seen", model.manifest, QUERY, write=True)

    def append(moments: object, recorded: float) -> None:
        raise VljEdgeError("the disk is full")

    monkeypatch.setattr(store, "append", append)
    recorder = Recorder(store, QUERY)
    for number in range(3):
        recorder.add(window("door", float(number), RED, 1.7e9 + number))
    recorder.close()
    assert recorder.lost == 3
    assert "3 windows" in caplog.records[-1].getMessage()
