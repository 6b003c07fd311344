"""Each change of a source's state is one line in the log, with the source and the reason."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.runtime.service.stations import Film
from tests.runtime.tiny_bundle import RED
from tests.runtime.video.fake_camera import fake_camera
from tests.waiting import wait_for
from vlj_edge.cli.say import JsonLogLines
from vlj_edge.runtime.model import Model
from vlj_edge.runtime.service.settings import SourceSettings
from vlj_edge.runtime.service.state_log import StateLog, log_error
from vlj_edge.runtime.service.station import Station
from vlj_edge.runtime.video.source import Source

Lines = Callable[[], list[logging.LogRecord]]


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Lines:
    caplog.set_level(logging.INFO, "vlj_edge")
    return lambda: [line for line in caplog.records if line.name.endswith("state_log")]


def messages(lines: Lines) -> list[str]:
    return [line.getMessage() for line in lines()]


def test_a_reason_is_told_once_until_it_gives_pictures(lines: Lines) -> None:
    log = StateLog("door")
    log.change("live", None)
    for _ in range(3):
        log.change("lost", "no picture: refused")
        log.change("waiting for a key frame", "no key frame")
        log.change("lost", "no picture: no route")
    log.change("live", None)
    log.change("live", None)
    log.change("lost", "no picture: refused")
    assert [line.partition("door")[2] for line in messages(lines)] == [
        " gives pictures",
        ": no picture: refused",
        ": no key frame",
        ": no picture: no route",
        " gives pictures again",
        ": no picture: refused",
    ]


def test_in_json_source_state_and_reason_have_fields(lines: Lines) -> None:
    StateLog("door").change("lost", "refused by rtsp://me:geheim@door/1")
    log_error("film", "it is damaged")
    lost, failed = (json.loads(JsonLogLines().format(line)) for line in lines())
    assert lost["source"] == "door" and lost["state"] == "lost" and lost["reason"].startswith("refused by")
    assert "geheim" not in str(lost) and lost["level"] == "WARNING" and "door" in lost["message"]
    assert failed["source"] == "film" and failed["reason"] == "it is damaged" and failed["level"] == "ERROR"


def test_a_camera_that_comes_and_goes(model: Model, cameras: dict[str, Source], tmp_path: Path, lines: Lines) -> None:
    program = "if tries in (0, 3): frames(20)\nelif tries > 4: frames(2000)"  # absent between
    cameras["door"] = camera = fake_camera(tmp_path, program, keep_trying=True, stale=60)
    station = Station(model, [SourceSettings("door", "door")], keep_trying=True)
    channel = station.channels["door"]
    camera._on_state = channel._set_camera_state  # type: ignore[attr-defined]
    station.start()
    wait_for(lambda: len(messages(lines)) >= 5)
    assert channel.state == "live" and channel.problem is None
    station.stop()
    gives, lost = "door gives pictures", "door: no picture: its stream has ended"
    assert messages(lines) == [gives, lost, f"{gives} again", lost, f"{gives} again"]


def test_a_file_that_is_not_there_is_waited_for(
    model: Model, make_video: Film, tmp_path: Path, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vlj_edge.runtime.service.channel._LOOK_EVERY", 0.1)
    film, here = make_video([(RED, 3)], name="film.avi").read_bytes(), tmp_path / "here" / "film.avi"
    station = Station(model, [SourceSettings("film", str(here))], keep_trying=True)
    channel = station.channels["film"]
    station.start()
    wait_for(lambda: channel.state == "waiting")
    assert "film.avi does not exist" in (channel.problem or "") and channel.error is None
    here.parent.mkdir()
    with here.open("wb") as stream:  # a copy that takes its time
        for at in range(0, len(film), len(film) // 4):
            stream.write(film[at : at + len(film) // 4])
            stream.flush()
    assert channel.join(120) and channel.state == "ended"
    assert channel.error is None and channel.problem is None and channel.counts()["events"] == 1
    [missing, there, ended] = messages(lines)
    assert "film.avi does not exist" in missing and "again" in there and "has ended" in ended
    station.stop()


def test_a_file_that_is_waited_for_is_no_error_and_stops_at_once(model: Model, tmp_path: Path) -> None:
    station = Station(model, [SourceSettings("film", str(tmp_path / "none.mp4"))], keep_trying=True)
    station.start()
    wait_for(lambda: station.channels["film"].state == "waiting")
    station.stop()
    assert station.channels["film"].join(10) and station.channels["film"].error is None


def test_without_waiting_a_missing_file_is_an_error(model: Model, tmp_path: Path) -> None:
    station = Station(model, [SourceSettings("film", str(tmp_path / "none.mp4"))])
    station.start()
    station.wait(0.01)
    assert "none.mp4" in (station.channels["film"].error or "") and station.channels["film"].state == "ended"


def test_a_looping_recording_that_is_moved_away_is_waited_for(
    model: Model, make_video: Film, tmp_path: Path, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vlj_edge.runtime.service.channel._LOOK_EVERY", 0.1)
    film, away = make_video([(RED, 2)], name="film.avi"), tmp_path / "away"
    station = Station(model, [SourceSettings("film", str(film), loop=True)], keep_trying=True)
    channel = station.channels["film"]
    station.start()
    wait_for(lambda: channel.counts()["events"] >= 2)
    shutil.move(film, away)
    wait_for(lambda: channel.state == "waiting")
    before = channel.counts()["events"]
    shutil.move(away, film)
    wait_for(lambda: channel.counts()["events"] > before)
    station.stop()
    assert len(messages(lines)) == 3
