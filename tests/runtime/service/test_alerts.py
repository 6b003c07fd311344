"""Alerts of a station: events come once, with a picture, to every sink; settings change while it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import vlj_edge
from tests.runtime import tiny_bundle as by_hand
from tests.runtime.service.stations import Camera, run
from tests.runtime.tiny_bundle import BLUE, GREEN, RED
from tests.runtime.words.endpoints import Answer, Request, completion, endpoint
from tests.waiting import wait_for
from vlj_edge import VljEdgeError
from vlj_edge.bundle import GateSettings, MeaningGateSettings, RestSettings
from vlj_edge.runtime.alerts import clips
from vlj_edge.runtime.alerts.decision import Rule
from vlj_edge.runtime.alerts.journal import AlertJournal
from vlj_edge.runtime.alerts.settings import Alert
from vlj_edge.runtime.service.settings import SourceSettings
from vlj_edge.runtime.service.station import Station
from vlj_edge.runtime.sinks.alert_event import AlertEvent
from vlj_edge.runtime.sinks.queue import SinkQueue
from vlj_edge.runtime.video.source import Source
from vlj_edge.runtime.words.settings import WordsSettings

AT_ONCE = Rule(0.6, 0.4, 0.0, 0.0)
GREEN_LIGHT = Alert("green light", ("green",), ("red", "blue"), rule=AT_ONCE)


class Kept:
    """A sink that keeps what it is given."""

    takes = AlertEvent

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.announced: list[tuple[str, str, bool]] = []
        self.gone: list[tuple[str, str]] = []

    def announce_alerts(self, watched: list[tuple[str, str, bool]], gone: list[tuple[str, str]]) -> None:
        self.announced, self.gone = list(watched), list(gone)

    def write(self, event: Any) -> None:
        self.events.append(event)

    def close(self) -> None:
        pass


def test_an_event_begins_once_and_ends_once(tiny_bundle: Path, make_video: Callable[..., Path]) -> None:
    sink, told = Kept(), list[AlertEvent]()
    path = make_video([(RED, 4), (GREEN, 4), (BLUE, 4)])
    with vlj_edge.load(tiny_bundle) as model:
        sources, alerts = [SourceSettings("hall", str(path))], [GREEN_LIGHT]
        station = Station(model, sources, [SinkQueue("kept", sink)], alerts=alerts, on_alert=told.append)
        run(station)
        [status] = station.alerts.statuses()
    assert [event.kind for event in sink.events] == ["start", "end"] and sink.events == told
    start, end = sink.events
    assert start.event == end.event and start.id != end.id and start.source == "hall" and start.score > 0.6
    assert start.picture is not None and start.picture.startswith(b"\xff\xd8")
    assert sink.announced == [("green light", "hall", False)] and status.events == 1 and status.state.phase == "idle"


def test_the_end_of_a_recording_ends_its_event(tiny_bundle: Path, make_video: Callable[..., Path]) -> None:
    told: list[AlertEvent] = []
    path = make_video([(RED, 4), (GREEN, 4)])
    with vlj_edge.load(tiny_bundle) as model:
        run(Station(model, [SourceSettings("hall", str(path))], alerts=[GREEN_LIGHT], on_alert=told.append))
    assert [event.kind for event in told] == ["start", "end"]


def test_a_camera_of_another_name_is_left_alone(tiny_bundle: Path, cameras: dict[str, Source]) -> None:
    cameras |= {"one": Camera([RED, GREEN]), "two": Camera([RED, GREEN])}
    alert = Alert("green light", ("green",), ("red", "blue"), rule=AT_ONCE, cameras=("b",))
    told: list[AlertEvent] = []
    with vlj_edge.load(tiny_bundle) as model:
        sources = [SourceSettings("a", "one"), SourceSettings("b", "two")]
        run(Station(model, sources, alerts=[alert], on_alert=told.append))
    assert {event.source for event in told} == {"b"}


def test_an_alert_that_cannot_be_watched_for_is_refused_and_nothing_changes(
    tiny_bundle: Path, make_video: Callable[..., Path]
) -> None:
    sources = [SourceSettings("hall", str(make_video([(RED, 1)])))]
    nowhere = Alert("x", ("green",), cameras=("garden",))
    with vlj_edge.load(tiny_bundle) as model:
        with pytest.raises(VljEdgeError, match="garden"):
            Station(model, sources, alerts=[nowhere])
        station = Station(model, sources, alerts=[GREEN_LIGHT])
        with pytest.raises(VljEdgeError, match="garden"):
            station.reconfigure(sources, [nowhere])
        assert station.alerts.alerts == (GREEN_LIGHT,)
        station.stop()


def test_an_alert_that_is_taken_away_ends_its_event(tiny_bundle: Path) -> None:
    told: list[AlertEvent] = []
    with vlj_edge.load(tiny_bundle) as model:
        station = Station(model, [SourceSettings("hall", "nothing.mp4")], alerts=[GREEN_LIGHT], on_alert=told.append)
        station.alerts.add("hall", None, 1.0, by_hand.embedding_of(GREEN))
        assert station.alerts.wants("hall", 1.5) and not station.alerts.wants("hall", 1.1)
        station.alerts.apply([], {"hall": None})
        station.stop()
    assert [event.kind for event in told] == ["start", "end"]
    assert not station.alerts.statuses()


def test_every_moving_window_is_encoded_for_alerts_alone(tiny_bundle: Path, make_video: Callable[..., Path]) -> None:
    path = make_video([(RED, 2), (GREEN, 2), (BLUE, 2)] * 2)
    seldom = GateSettings(
        meaning=MeaningGateSettings(look_every=6.0, longest_look=6.0), rest=RestSettings(enabled=False)
    )
    seen: dict[bool, int] = {}
    with vlj_edge.load(tiny_bundle) as model:
        for wanted in (False, True):
            reports: list[Any] = []
            list(model.narrate(path, gates=seldom, watch=reports.append, wants=lambda window, wanted=wanted: wanted))
            seen[wanted] = sum(report.embedding is not None for report in reports)
            assert not wanted or seen[wanted] == len(reports)
    assert seen[True] > seen[False]


def test_an_alert_that_asks_for_it_brings_a_clip_to_every_sink_and_the_journal(
    tiny_bundle: Path, cameras: dict[str, Source], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clips, "_GRACE", 60.0)
    cameras["cam"] = Camera([RED, GREEN, BLUE])
    sink, journal = Kept(), AlertJournal(tmp_path / "alerts")
    alert = replace(GREEN_LIGHT, keep=1.0)
    with vlj_edge.load(tiny_bundle) as model:
        station = Station(
            model,
            [SourceSettings("hall", "cam"), SourceSettings("plain", "cam2")],
            [SinkQueue("kept", sink, retry=True)],
            alerts=[replace(alert, cameras=("hall",))],
            journal=journal,
        )
        cameras["cam2"] = Camera([RED])
        run(station)
    kinds = [event.kind for event in sink.events]
    assert sorted(kinds) == ["clip", "end", "start"] and kinds[0] == "start"
    clip = sink.events[kinds.index("clip")]
    assert len({event.event for event in sink.events}) == 1 and b"ftyp" in clip.clip[:16] and clip.picture is None
    assert journal.clip(clip.event) == clip.clip and journal.picture(clip.event) == sink.events[0].picture
    journal.close()


def test_a_camera_is_asked_about_by_its_own_words_before_an_alert_fires(
    tiny_bundle: Path, cameras: dict[str, Source]
) -> None:
    cameras |= {"one": Camera([RED, GREEN, BLUE], seconds=3.0), "two": Camera([RED, GREEN, BLUE], seconds=3.0)}
    told: list[AlertEvent] = []
    alert = replace(GREEN_LIGHT, confirm="Is {camera} green?")

    def answer(request: Request) -> Answer:
        asked = request.text
        return Answer(completion("no" if "hall" in asked else "yes" if "green?" in asked else "a colour"))

    with endpoint(answer) as server, vlj_edge.load(tiny_bundle) as model:
        words = WordsSettings(server.url, calls_per_hour=0)
        sources = [SourceSettings("hall", "one", words=words), SourceSettings("yard", "two", words=words)]
        station = Station(model, sources, alerts=[alert], on_alert=told.append)
        station.start()
        station.wait(0.01)
        wait_for(lambda: len(told) == 2 and not any(each.asking for each in station.alerts.statuses()))
        station.stop()
        asked = [request.text for request in server.got if "green?" in request.text]
    assert sorted(text.splitlines()[0] for text in asked) == ["Is hall green?", "Is yard green?"]
    assert [(event.source, event.kind, event.confirmed) for event in told] == [
        ("yard", "start", True),
        ("yard", "end", None),
    ]
