"""Several sources sharing a model: each gets the texts it would get alone, and none delays another."""

from __future__ import annotations

import doctest
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.runtime.service.stations import Camera, Film, run
from tests.runtime.tiny_bundle import BLUE, GREEN, RED, YELLOW
from tests.waiting import wait_for
from vlj_edge import VljEdgeError
from vlj_edge.bundle import GateSettings, MeaningGateSettings, SceneGateSettings
from vlj_edge.results import WindowReport
from vlj_edge.runtime.model import Model
from vlj_edge.runtime.service import station as stations
from vlj_edge.runtime.service.resumable import ResumableSource
from vlj_edge.runtime.service.settings import SourceSettings
from vlj_edge.runtime.service.station import Station
from vlj_edge.runtime.sinks.base import Event
from vlj_edge.runtime.sinks.queue import SinkQueue
from vlj_edge.runtime.video.source import Frame, Source


@pytest.fixture(scope="module")
def model(tiny_bundle: Path) -> Model:
    return Model(tiny_bundle)


def test_the_example_in_its_docstring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[3])
    done = doctest.testmod(stations)
    assert done.attempted and not done.failed


def test_each_source_has_the_texts_it_has_alone(model: Model, tiny_bundle: Path, make_video: Film) -> None:
    films = {
        "a": make_video([(RED, 3), (BLUE, 3)], name="a.avi"),
        "b": make_video([(GREEN, 3), (YELLOW, 3), (RED, 3)], name="b.avi"),
        "c": make_video([(BLUE, 5)], name="c.avi"),
    }
    heard: list[Event] = []
    run(Station(model, [SourceSettings(name, str(path)) for name, path in films.items()], on_event=heard.append))
    alone = Model(tiny_bundle)
    for name, path in films.items():
        events = [event for event in heard if event.source == name]
        assert [event.narration for event in events] == list(alone.narrate(path))
        assert [event.number for event in events] == list(range(1, len(events) + 1))


def test_one_that_cannot_be_read_does_not_end_the_others(model: Model, make_video: Film, tmp_path: Path) -> None:
    heard: list[Event] = []
    sources = [SourceSettings("good", str(make_video([(RED, 3)]))), SourceSettings("bad", str(tmp_path / "none.mp4"))]
    station = Station(model, sources, on_event=heard.append)
    run(station)
    assert [event.narration.text for event in heard] == ["a red screen"]
    assert "none.mp4" in (station.channels["bad"].error or "")
    assert station.channels["good"].error is None and station.channels["good"].state == "ended"


def test_a_query_and_gates_change_while_it_runs(model: Model, cameras: dict[str, Source]) -> None:
    cameras["cam"] = camera = Camera([RED] * 4000)
    station = Station(model, [SourceSettings("cam", "cam", query="describe")])
    channel = station.channels["cam"]
    station.start()
    wait_for(lambda: channel.last_event is not None)
    first = channel.last_event
    assert first is not None and first.narration.text == "a red screen"
    with pytest.raises(VljEdgeError, match="empty"):
        channel.edit(lambda now: replace(now, query=" "))
    with pytest.raises(VljEdgeError, match="smoothing"):
        channel.edit(lambda now: replace(now, gates=GateSettings(meaning=MeaningGateSettings(smoothing=0))))
    channel.edit(lambda now: replace(now, query="what colour is it"))
    wait_for(lambda: channel.last_event is not first)
    second = channel.last_event
    assert second is not None and second.number == 2 and channel.settings.query == "what colour is it"
    assert second.narration.start > first.narration.start, "its times go on"
    given = camera.given
    wait_for(lambda: camera.given > given + 5)
    station.stop()
    assert channel.counts()["events"] == 2 and channel.state == "ended"
    assert channel.counts()["windows"] >= 2


def test_a_new_run_begins_after_a_gap(model: Model, cameras: dict[str, Source]) -> None:
    cameras["cam"] = Camera([RED, RED], gap_before=500.0)
    heard: list[Event] = []
    station = Station(model, [SourceSettings("cam", "cam")], on_event=heard.append)
    run(station)
    assert [event.narration.text for event in heard] == ["a red screen"] * 2
    assert heard[0].narration.start < 2 < 500 < heard[1].narration.start
    assert station.channels["cam"].counts()["windows"] < 20, "the gap was not filled with windows"


def test_reports_show_cosines_and_texts(model: Model, make_video: Film) -> None:
    station = Station(model, [SourceSettings("a", str(make_video([(RED, 3), (BLUE, 3)])))])
    run(station)
    statistics = station.channels["a"].statistics
    count, reports = statistics.reports_after(0)
    times = [seconds for seconds, _ in reports]
    assert times == sorted(times) and sum(report.spoke for _, report in reports) == 2
    cosines = [report.similarity for _, report in reports if report.similarity is not None]
    assert min(cosines) < 0 < 0.99 < max(cosines) <= 1
    assert isinstance(reports[0][1], WindowReport) and count == len(reports) == statistics.counts()["windows"]
    assert statistics.reports_after(count - 2) == (count, reports[-2:]) and statistics.reports_after(count) == (
        count,
        [],
    )


def test_the_nearest_label_is_reported(model: Model, make_video: Film) -> None:
    labels = ("red", "green", "blue")
    station = Station(model, [SourceSettings("a", str(make_video([(RED, 3), (BLUE, 3)])), labels=labels)])
    run(station)
    channel = station.channels["a"]
    nearest = [report.label for _, report in channel.statistics.reports_after(0)[1] if report.label is not None]
    assert nearest[0] == "red" and nearest[-1] == "blue" == channel.label and set(nearest) == {"red", "blue"}
    with pytest.raises(VljEdgeError, match="'red'"):
        channel.edit(lambda now: replace(now, labels=("red", "red")))
    assert channel.settings.labels == labels


def test_four_cameras_on_a_slow_chain_take_turns(
    tiny_bundle: Path, cameras: dict[str, Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Model(tiny_bundle)
    encoder = slow.chain.vision[0]
    real = encoder.run
    monkeypatch.setattr(encoder, "run", lambda: (time.sleep(0.1), real())[1])
    names = "abcd"
    for name in names:
        cameras[name] = Camera([RED, BLUE, GREEN, YELLOW] * 3, seconds=1.5)
    gates = GateSettings(SceneGateSettings(enabled=False), MeaningGateSettings(enabled=False))
    station = Station(slow, [SourceSettings(name, name, gates=gates) for name in names])
    run(station)
    counts = [station.channels[name].counts() for name in names]
    encoded, dropped = [c["encoder_runs"] for c in counts], [c["windows_dropped"] for c in counts]
    assert min(dropped) > 0, "it is more than it can do"
    assert min(encoded) > 0.5 * max(encoded), "fair turns"
    assert all(c["windows"] + d <= 12 * 1.5 * 2 + 1 for c, d in zip(counts, dropped, strict=True))


def test_sinks_get_every_event_once(model: Model, make_video: Film) -> None:
    class Keeps:
        def __init__(self) -> None:
            self.events: list[Event] = []

        def write(self, event: Event) -> None:
            self.events.append(event)

        def close(self) -> None:
            pass

    class Fails(Keeps):
        def write(self, event: Event) -> None:
            raise OSError("the disk is gone")

    keeps, fails = Keeps(), Fails()
    sinks = [SinkQueue("keeps", keeps), SinkQueue("fails", fails)]
    station = Station(model, [SourceSettings("a", str(make_video([(RED, 3), (BLUE, 3)])))], sinks)
    run(station)
    station.stop()
    assert [event.number for event in keeps.events] == [1, 2]
    assert sinks[1].state()["missed"] == 2 and "the disk is gone" in sinks[1].state()["last_error"]


def test_a_new_configuration_starts_stops_and_changes_channels(model: Model, cameras: dict[str, Source]) -> None:
    cameras.update({name: Camera([RED] * 4000) for name in "abc"})
    station = Station(model, [SourceSettings("a", "a"), SourceSettings("b", "b")])
    station.start()
    a, b = station.channels.values()
    wait_for(lambda: a.last_event and b.last_event)
    with pytest.raises(VljEdgeError, match="'c'"):
        station.reconfigure([SourceSettings("c", "c"), SourceSettings("c", "c")])
    with pytest.raises(VljEdgeError, match="empty"):
        station.reconfigure([SourceSettings("c", "c"), SourceSettings("a", "a", query=" ")])
    assert list(station.channels.values()) == [a, b] and not b.join(0), "a mistake changes nothing"
    kept = a.settings
    station.reconfigure([SourceSettings("c", "c"), SourceSettings("a", "a")])
    assert a.settings is kept, "nothing about it has changed"
    assert list(station.channels) == ["c", "a"] and station.channels["a"] is a and b.join(30) and b.state == "ended"
    station.reconfigure([SourceSettings("c", "c"), SourceSettings("a", "a", query="what colour is it")])
    before = a.last_event
    wait_for(lambda: a.last_event is not before and station.channels["c"].last_event)
    cameras["a"] = Camera([RED] * 4000)
    station.reconfigure([SourceSettings("c", "c"), SourceSettings("a", "a", query="what colour is it", rotate=90)])
    turned = station.channels["a"]
    assert turned is not a and a.join(30), "what reads the camera in another way opens it again"
    wait_for(lambda: turned.last_event)
    station.stop()
    station.reconfigure([SourceSettings("b", "b")])
    assert list(station.channels) == ["c", "a"], "it has stopped"
    assert all(channel.join(30) for channel in station.channels.values())


def test_a_source_for_which_the_system_has_no_thread_is_started_by_the_next_call(
    model: Model, make_video: Film, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = (SourceSettings(name, str(make_video([(RED, 3)], name=f"{name}.avi"))) for name in "ab")
    station = Station(model, [one], real_time=True)
    station.start()

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(VljEdgeError, match="b cannot be started"):
            station.reconfigure([two])
    assert station.channels.keys() == {"b"} and not station.channels["b"].started
    station.reconfigure([two])
    wait_for(lambda: station.channels["b"].last_event)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        station.stop()
    assert station.channels["b"].state == "ended"


def test_settings_are_checked_before_anything_starts(model: Model, make_video: Film) -> None:
    film = str(make_video([(RED, 3)]))
    good = SourceSettings("a", film, labels=("red", "blue"))
    for wrong, named in (
        ({"labels": ("red", "red")}, "b: the label 'red'"),
        ({"labels": ("red", "blue " * 500)}, "b: "),
        ({"query": " "}, "b: .*empty"),
        ({"gates": GateSettings(meaning=MeaningGateSettings(smoothing=0))}, "b: .*smoothing"),
    ):
        with pytest.raises(VljEdgeError, match=named):
            Station(model, [good, SourceSettings("b", film, **wrong)])  # type: ignore[arg-type]
    station = Station(model, [good])
    with pytest.raises(VljEdgeError, match="b: the label 'red'"):
        station.reconfigure(
            [replace(good, query="what colour is it"), SourceSettings("b", film, labels=("red", "red"))]
        )
    assert list(station.channels) == ["a"] and station.channels["a"].settings is good
    station.stop()


def test_names_are_unique(model: Model) -> None:
    with pytest.raises(VljEdgeError, match="'a'"):
        Station(model, [SourceSettings("a", "0"), SourceSettings("a", "1")])


class Count(Source):
    """A live source whose frames are numbered."""

    live, period = True, 0.25

    def __init__(self, times: Sequence[float]) -> None:
        self._times = times

    def frames(self) -> Iterator[Frame]:
        for number, seconds in enumerate(self._times):
            yield Frame(seconds, np.full((1, 1, 3), number, np.uint8))


def test_a_run_begins_where_the_one_before_stopped() -> None:
    resumable = ResumableSource(Count([number / 4 for number in range(100)]))
    first: list[Frame] = []
    first_run = resumable.next_run(lambda: len(first) < 10)
    for frame in first_run.frames():
        first.append(frame)
    second_run = resumable.next_run(lambda: True)
    second = list(second_run.frames())
    assert [frame.time for frame in first] == [n / 4 for n in range(10)] and first_run.offset == 0
    assert second[0].time == 0 and second_run.offset == 2.5 and resumable.ended
    assert [int(frame.image[0, 0, 0]) for frame in (*first, *second)] == list(range(100))


def test_frames_that_go_back_in_time_are_skipped_and_counted() -> None:
    resumable = ResumableSource(Count([0.0, 0.25, 0.1, 0.2, 0.5, 0.4, 0.75]))
    frames = resumable.next_run(lambda: True).frames()
    assert [frame.time for frame in frames] == [0.0, 0.25, 0.5, 0.75] and resumable.skipped == 3
