"""Recordings in a station: played in real time, repeated, and read once."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.runtime.service.stations import Camera, Film, run
from tests.runtime.tiny_bundle import BLUE, GREEN, RED
from tests.waiting import wait_for
from vlj_edge.runtime.model import Model
from vlj_edge.runtime.service import channel as channels
from vlj_edge.runtime.service.settings import SourceSettings
from vlj_edge.runtime.service.station import Station
from vlj_edge.runtime.sinks.base import Event
from vlj_edge.runtime.video.part import Part
from vlj_edge.runtime.video.source import Source


def test_a_recording_is_played_in_real_time_with_its_own_times(model: Model, make_video: Film) -> None:
    film = make_video([(RED, 1.5), (BLUE, 1.5)])
    heard: list[tuple[float, Event]] = []
    station = Station(
        model,
        [SourceSettings("a", str(film))],
        on_event=lambda event: heard.append((time.monotonic(), event)),
        real_time=True,
    )
    began = time.monotonic()
    run(station)
    assert time.monotonic() - began > 2.9
    assert heard and all(came - began > event.narration.end - 0.6 for came, event in heard)
    assert all(0 <= event.narration.start < event.narration.end <= 3.1 for _, event in heard)
    channel = station.channels["a"]
    assert channel.state == "ended" and channel.error is None and channel.counts()["delay_p50"] is not None


def test_a_recording_that_loops_begins_again_with_its_own_times(model: Model, make_video: Film) -> None:
    film = make_video([(RED, 1), (BLUE, 1)])
    heard: list[Event] = []
    station = Station(model, [SourceSettings("a", str(film), loop=True)], on_event=heard.append)
    station.start()
    channel = station.channels["a"]
    wait_for(lambda: len(heard) >= 6 or channel.error)
    assert channel.error is None and channel.state == "live"
    station.stop()
    assert [event.number for event in heard] == list(range(1, len(heard) + 1))
    first = [event for event in heard if event.narration.text == heard[0].narration.text]
    assert len(first) >= 3 and len({event.narration.start for event in first}) == 1
    assert max(event.narration.end for event in heard) <= 2.1 and channel.state == "ended"


def test_a_part_of_a_recording_is_played_and_loops(model: Model, make_video: Film) -> None:
    film = make_video([(RED, 1), (BLUE, 1), (GREEN, 1), (RED, 1)])
    heard: list[Event] = []
    settings = SourceSettings("a", str(film), loop=True, part=Part(1.0, 3.0))
    station = Station(model, [settings], on_event=heard.append, real_time=True)
    station.start()
    channel = station.channels["a"]
    wait_for(lambda: len(heard) >= 4 or channel.error)
    station.stop()
    assert channel.error is None
    assert len({event.narration.text for event in heard}) == 2, "blue and green, never red"
    assert all(1 <= event.narration.start < event.narration.end <= 3.1 for event in heard)


def test_a_damaged_recording_loops_and_is_reported_once(model: Model, make_video: Film, tmp_path: Path) -> None:
    whole = make_video([(RED, 2)], name="a.avi").read_bytes()
    (tmp_path / "half.avi").write_bytes(whole[: len(whole) // 2])
    heard: list[Event] = []
    errors: list[str] = []
    station = Station(
        model,
        [SourceSettings("a", str(tmp_path / "half.avi"), loop=True)],
        on_event=heard.append,
        on_error=lambda name, error: errors.append(error),
    )
    station.start()
    wait_for(lambda: len(heard) >= 3)
    station.stop()
    assert len(errors) == 1 and "half.avi" in errors[0]


@pytest.mark.parametrize("damage", ["away", "empty", "half"])
def test_a_recording_that_loops_is_played_again_once_it_is_whole(
    model: Model, make_video: Film, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channels, "_PAUSES", (0.05,))
    film = make_video([(RED, 1), (BLUE, 1)], name="a.avi")
    whole, heard = film.read_bytes(), list[Event]()
    station = Station(model, [SourceSettings("a", str(film), loop=True)], on_event=heard.append, keep_trying=True)
    station.start()
    channel = station.channels["a"]
    wait_for(lambda: len(heard) >= 2)
    if damage == "away":
        film.unlink()
    else:
        film.write_bytes(b"" if damage == "empty" else whole[: len(whole) // 2])
    wait_for(lambda: "a.avi" in (channel.problem or ""))
    film.write_bytes(whole)
    before = len(heard)
    wait_for(lambda: len(heard) > before + 4 and channel.problem is None)
    assert channel.state == "live"
    station.stop()
    assert channel.state == "ended"


def test_what_can_be_read_once_does_not_loop(model: Model, cameras: dict[str, Source]) -> None:
    pipe = Camera([RED])
    pipe.live = False
    cameras["pipe"] = pipe
    station = Station(model, [SourceSettings("a", "pipe", loop=True)])
    run(station)
    assert "loop" in (station.channels["a"].error or "") and station.channels["a"].state == "ended"
    cameras["camera"] = Camera([RED])  # of a live source it says nothing
    station = Station(model, [SourceSettings("a", "camera", loop=True)], real_time=True)
    run(station)
    assert station.channels["a"].error is None


def test_a_recording_in_real_time_stops_at_once(model: Model, make_video: Film) -> None:
    station = Station(model, [SourceSettings("a", str(make_video([(RED, 200)], rate=0.02)))], real_time=True)
    station.start()
    wait_for(lambda: station.channels["a"].latest_image() is not None)
    began = time.monotonic()
    station.stop()
    assert time.monotonic() - began < 20, "the next picture is due in 50 s"
    assert station.channels["a"].state == "ended"
