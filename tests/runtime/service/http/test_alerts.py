"""Alerts over HTTP: their state, events, pictures and clips; and pictures of texts."""

from __future__ import annotations

import io
from pathlib import Path

import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.runtime.service.http.server import Camera, Serve, messages, metric
from tests.runtime.sinks.events import Refuses
from tests.runtime.tiny_bundle import GREEN, RED
from tests.waiting import wait_for
from vlj_edge.runtime.alerts.decision import Rule
from vlj_edge.runtime.alerts.journal import AlertJournal
from vlj_edge.runtime.alerts.settings import Alert
from vlj_edge.runtime.service.http.byte_range import byte_range
from vlj_edge.runtime.sinks.alert_event import AlertEvent, event_id
from vlj_edge.runtime.sinks.queue import SinkQueue
from vlj_edge.runtime.video.source import Source

LIGHT = Alert("green light", ("green",), ("red", "blue"), rule=Rule(0.6, 0.4, 0.0, 0.0))
EVENT = AlertEvent("old", "hall", "start", event_id("old", "hall", 1.0), 5.0, 1.0, 0.9, b"JPEG", confirmed=False)
CLIP = bytes(range(100))


def test_events_of_alerts_have_pictures(serve: Serve, cameras: dict[str, Source]) -> None:
    cameras["cam"] = Camera([RED, GREEN], seconds=3.0, speed=20)
    served = serve(alerts=[LIGHT])
    with served.client() as client:
        wait_for(lambda: any(each["ended"] for each in client.get("/api/alerts/events").json()))
        event = client.get("/api/alerts/events").json()[-1]
        assert event["alert"] == "green light" and event["source"] == "cam" and event["ended"] >= event["since"]
        assert event["picture"] and not event["clip"] and event["confirmed"] is None and event["score"] > 0.6
        picture = client.get(f"/api/alerts/events/{event['event']}/picture.jpg")
        assert PIL.Image.open(io.BytesIO(picture.content)).size == (80, 60)
        assert client.get(f"/api/alerts/events/{event['event']}/clip.mp4").status_code == 404
        [state] = client.get("/api/alerts").json()
        assert state["alert"] == "green light" and state["events"] >= 1


def test_events_of_an_earlier_start_and_their_clips_are_there(serve: Serve, tmp_path: Path) -> None:
    before = AlertJournal(tmp_path)
    assert before.add(EVENT, "{}")
    clip = AlertEvent("old", "hall", "clip", EVENT.event, 6.0, 1.0, 0.9, clip=CLIP, confirmed=False)
    assert before.add(clip, "{}")
    before.close()
    journal = AlertJournal(tmp_path)
    served = serve(journal=journal)
    with served.client() as client:
        [found] = client.get("/api/alerts/events").json()
        assert found["event"] == EVENT.event and found["clip"] and found["confirmed"] is False and not found["ended"]
        address = f"/api/alerts/events/{EVENT.event}/clip.mp4"
        whole = client.get(address)
        assert whole.content == CLIP and whole.status_code == 200 and whole.headers["content-type"] == "video/mp4"
        part = client.get(address, headers={"Range": "bytes=10-19"})
        assert part.status_code == 206 and part.content == CLIP[10:20]
        assert part.headers["content-range"] == "bytes 10-19/100"
        assert client.get(address, headers={"Range": "bytes=500-"}).content == CLIP
        assert client.get("/api/alerts/events/none/picture.jpg").status_code == 404
    served.stop()
    journal.close()


def test_texts_have_a_picture_of_their_moment_also_for_who_comes_later(serve: Serve) -> None:
    served = serve()
    wait_for(served.last)
    with served.client() as client, client.stream("GET", "/api/events") as answer:
        data = next(data for kind, data, _ in messages(answer) if kind == "narration")
        assert data["picture"] == f"/api/events/{data['id']}/picture.jpg"
        assert PIL.Image.open(io.BytesIO(client.get(data["picture"]).content)).size == (80, 60)
        assert client.get("/api/events/none/picture.jpg").status_code == 404
    assert len(served.broadcaster._pictures) <= 50


@given(st.integers(0, 60), st.integers(0, 60), st.integers(1, 50))
def test_a_range_is_what_a_slice_gives(first: int, last: int, size: int) -> None:
    data = bytes(size)
    for header, wanted in (
        (f"bytes={first}-{last}", data[first : last + 1] if first <= last else b""),
        (f"bytes={first}-", data[first:]),
        (f"bytes=-{last}", data[-last:] if last else b""),
    ):
        found = byte_range(header, size)
        assert (b"" if found is None else data[found[0] : found[1] + 1]) == wanted


@pytest.mark.parametrize("header", [None, "", "bytes=-", "bytes=a-b", "bytes=1-2,4-5", "items=0-1", "bytes=9-1"])
def test_what_is_no_range_is_ignored(header: str | None) -> None:
    assert byte_range(header, 10) is None


def test_alerts_that_wait_for_a_key_are_shown(serve: Serve) -> None:
    served = serve(sinks=[SinkQueue("webhook", Refuses(), retry=True)])
    [sink] = served.station.sinks
    sink.put(EVENT)
    wait_for(lambda: sink.state()["refused"] == 1)
    with served.client() as client:
        [state] = client.get("/api/state").json()["sinks"]
        assert (state["refused"], state["queued"], state["missed"]) == (1, 1, 0) and "401" in state["last_error"]
        health = client.get("/healthz")
        assert health.status_code == 200 and "401" in health.json()["waits"]["webhook"]
    assert metric(served.url, "vlj_edge_sink_refused", sink="webhook") == 1


def test_alerts_that_cannot_be_read_are_no_empty_list(serve: Serve, tmp_path: Path) -> None:
    served = serve(journal=(journal := AlertJournal(tmp_path)))
    assert journal._opened is not None
    journal._opened.close()  # as a disk that is gone
    with served.client() as client:
        for address in ("", f"/{EVENT.event}/picture.jpg", f"/{EVENT.event}/clip.mp4"):
            answer = client.get(f"/api/alerts/events{address}")
            assert answer.status_code == 503 and "disk" in answer.json()["error"]
