"""Settings that change while a server runs, health, and metrics."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.runtime.service.http.server import Camera, Serve, messages, metric
from tests.runtime.tiny_bundle import BLUE, RED
from tests.waiting import wait_for
from vlj_edge import VljEdgeError
from vlj_edge.bundle import GateSettings, MeaningGateSettings
from vlj_edge.runtime.service.settings import SourceSettings
from vlj_edge.runtime.sinks.base import Event
from vlj_edge.runtime.sinks.queue import SinkQueue
from vlj_edge.runtime.video.source import Source

Film = Callable[..., Path]


def test_a_new_configuration_is_shown(serve: Serve, cameras: dict[str, Source]) -> None:
    cameras.update({"old": Camera(), "new": Camera([BLUE])})
    served = serve(SourceSettings("old", "old"))
    wait_for(lambda: served.last("old"))
    with served.client() as client, client.stream("GET", "/api/events") as answer:
        served.station.reconfigure([SourceSettings("new", "new")])
        kinds = set()
        for kind, data, _ in messages(answer):
            if data["source"] == "new":
                kinds.add(kind)
            if {"window", "narration", "state"} <= kinds:
                break
        assert [source["name"] for source in client.get("/api/state").json()["sources"]] == ["new"]
        assert client.get("/api/sources/old/picture.jpg").status_code == 404
        assert client.get("/api/sources/new/picture.jpg").status_code == 200
        assert client.put("/api/sources/new/settings", json={"speak_below": 0.5}).json()["threshold"] == 0.5
        assert metric(served.url, "vlj_edge_windows_total", source="new") >= 1


def test_a_changed_query_and_threshold_change_the_narrations(serve: Serve, cameras: dict[str, Source]) -> None:
    cameras["cam"] = Camera([RED, BLUE])
    silent = GateSettings(meaning=MeaningGateSettings(speak_below=-1, speak_below_at_rest=-1))
    served = serve(SourceSettings("cam", "cam", gates=silent))
    channel = served.station.channels["cam"]
    wait_for(served.last)
    first = channel.last_event
    with served.client() as client:
        answer = client.put("/api/sources/cam/settings", json={"query": "what colour is it"})
        assert answer.status_code == 200 and answer.json()["query"] == "what colour is it"
        wait_for(lambda: channel.last_event is not first)
        answer = client.put("/api/sources/cam/settings", json={"speak_below": 0.95, "least_hold": 0, "longest_wait": 1})
        meaning = answer.json()["gates"]["meaning"]
        assert answer.json()["threshold"] == 0.95 and meaning["longest_wait"] == 1
        assert meaning["forget_above"] == 0.95 and meaning["speak_below_at_rest"] == -1
        assert channel.settings.gates is not None and channel.settings.gates.meaning.speak_below == 0.95
        assert channel.settings.query == "what colour is it"
        lower = client.put("/api/sources/cam/settings", json={"speak_below": 0.5}).json()["gates"]["meaning"]
        assert lower["forget_above"] == 0.92, "back to what it began with"


def test_a_budget_is_changed_and_what_it_leaves_out_is_counted(serve: Serve, cameras: dict[str, Source]) -> None:
    cameras["cam"] = Camera([RED, BLUE])
    served = serve(SourceSettings("cam", "cam"))
    channel = served.station.channels["cam"]
    wait_for(served.last)
    with served.client() as client:
        answer = client.put("/api/sources/cam/settings", json={"texts_per_hour": 0.5, "encodes_per_minute": 2})
        gates = answer.json()["gates"]
        assert gates["budget"] == {"texts_per_hour": 0.5, "encodes_per_minute": 2}
        assert channel.settings.gates is not None and channel.settings.gates.meaning == GateSettings().meaning
        wait_for(lambda: channel.counts()["looks_left_out"] > 0)
        assert client.get("/api/state").json()["sources"][0]["counts"]["looks_left_out"] > 0
        assert metric(served.url, "vlj_edge_looks_left_out_total", source="cam") > 0
        assert metric(served.url, "vlj_edge_changes_left_out_total", source="cam") >= 0
        before = channel.last_event
        texts = channel.counts()["decoder_runs"] + channel.counts()["memory_hits"]
        client.put("/api/sources/cam/settings", json={"texts_per_hour": 0.6, "encodes_per_minute": 0})
        runs = channel.counts()["encoder_runs"]
        wait_for(lambda: channel.counts()["encoder_runs"] > runs + 4)
        assert channel.counts()["decoder_runs"] + channel.counts()["memory_hits"] <= texts + 1, "runs share a budget"
        client.put("/api/sources/cam/settings", json={"texts_per_hour": 0})
        wait_for(lambda: channel.last_event is not before)


def test_labels_are_reported(serve: Serve, cameras: dict[str, Source]) -> None:
    cameras["cam"] = Camera()
    served = serve(SourceSettings("cam", "cam"))
    channel = served.station.channels["cam"]
    with served.client() as client:
        found = client.put("/api/sources/cam/settings", json={"labels": ["red", "blue", "green"]}).json()
        assert found["labels"] == ["red", "blue", "green"]
        wait_for(lambda: channel.label is not None)
        assert client.get("/api/state").json()["sources"][0]["label"] in found["labels"]
        wait_for(lambda: any(report.label is not None for _, report in channel.statistics.reports_after(0)[1]))
        assert client.put("/api/sources/cam/settings", json={"labels": []}).json()["labels"] == []
        wait_for(lambda: channel.label is None)


def test_thresholds_keep_their_distance(serve: Serve, cameras: dict[str, Source]) -> None:
    cameras["cam"] = Camera()
    served = serve(
        SourceSettings(
            "cam", "cam", gates=GateSettings(meaning=MeaningGateSettings(speak_below=0.8, speak_below_at_rest=0.6))
        )
    )
    with served.client() as client:
        for below, at_rest in ((-1, -1), (0.9, 0.7)):
            found = client.put("/api/sources/cam/settings", json={"speak_below": below}).json()["gates"]["meaning"]
            assert found["speak_below_at_rest"] == pytest.approx(at_rest)


@pytest.mark.parametrize(
    "wrong", [{}, {"query": ""}, {"query": " "}, {"query": "x" * 501}, {"speak_below": 1.5}, {"least_hold": -1},
              {"look_every": "1"}, {"longest_wait": 1e9}, {"labels": "a"}, {"labels": [""]},
              {"labels": ["a"] * 101}, {"labels": ["zebra", "giraffe"]}, {"labels": ["red", "red"]},
              {"texts_per_hour": -1}, {"encodes_per_minute": 1e9},
              {"query": 5}, {"query": "\ud800"}, [], "x"]
)  # fmt: skip
def test_wrong_settings_are_refused_in_one_line(serve: Serve, wrong: object) -> None:
    served = serve()
    before = served.station.channels["cam"].settings
    with served.client() as client:
        kind = {"Content-Type": "application/json"}
        answer = client.put("/api/sources/cam/settings", content=json.dumps(wrong), headers=kind)
        assert answer.status_code == 422, answer.text
        assert list(answer.json()) == ["error"] and "\n" not in answer.json()["error"]
        not_json = client.put("/api/sources/cam/settings", content=b"{nan", headers=kind)
        assert not_json.status_code == 422
        assert client.put("/api/sources/none/settings", json={"query": "x"}).status_code == 404
        assert client.put("/api/sources/cam/settings", json={"query": "x" * 100_000}).status_code == 413
        chunks = (b"x" * 10_000 for _ in range(20))
        large = client.put("/api/sources/cam/settings", content=chunks, headers=kind)
        assert large.status_code == 413
    assert served.station.channels["cam"].settings is before


def test_settings_are_saved(serve: Serve, tmp_path: Path) -> None:
    saved: list[list[SourceSettings]] = []

    def save(wanted: list[SourceSettings]) -> str:
        saved.append(wanted)
        if len(saved) > 1:
            raise VljEdgeError(f"{tmp_path}/kitchen.toml cannot be written (disk full): free space")
        return str(tmp_path / "kitchen.toml")

    with serve(save=save).client() as client:
        assert client.get("/api/state").json()["saves"]
        client.put("/api/sources/cam/settings", json={"query": "what colour is it"})
        answer = client.post("/api/settings/save")
        assert answer.json() == {"saved": "kitchen.toml"} and saved[0][0].query == "what colour is it"
        failed = client.post("/api/settings/save")
        assert failed.status_code == 422
        assert failed.json()["error"].startswith("kitchen.toml")
    with serve().client() as client:
        assert client.post("/api/settings/save").status_code == 404


def test_health(serve: Serve, cameras: dict[str, Source], make_video: Film, tmp_path: Path) -> None:
    served = serve(SourceSettings("film", str(make_video([(RED, 2)]))))
    wait_for(lambda: served.station.channels["film"].state == "ended")
    with served.client() as client:
        assert client.get("/healthz").json() == {"status": "ok"}
    cameras["door"] = door = Camera()
    waits = serve(SourceSettings("door", "door"), sinks=[SinkQueue("web", _Fails())], token="t")
    wait_for(lambda: waits.last("door") and waits.station.sinks[0].problem)
    door.set_state = lambda state: None  # it stays lost
    waits.station.channels["door"]._set_camera_state("lost")
    with waits.client() as client:
        answer = client.get("/healthz")
        assert answer.status_code == 200, "a restart of the service brings nothing back"
        assert answer.json() == {"status": "ok", "waits": {"door": "no picture", "web": "nobody is there"}}
    bad = serve(SourceSettings("bad", str(tmp_path / "none.mp4")), token="t")
    wait_for(lambda: bad.station.channels["bad"].error)
    with bad.client() as client:
        answer = client.get("/healthz")
        assert answer.status_code == 503 and answer.json()["error"].startswith("bad: none.mp4")


class _Fails:
    def write(self, event: Event) -> None:
        raise VljEdgeError("nobody is there")

    def close(self) -> None:
        pass


class _Keeps:
    def write(self, event: Event) -> None:
        pass

    def close(self) -> None:
        pass


def test_metrics_are_what_prometheus_reads(serve: Serve, cameras: dict[str, Source]) -> None:
    cameras["cam"], cameras['b"\\'] = Camera(), Camera([BLUE])
    served = serve(
        SourceSettings("cam", "cam"),
        SourceSettings('b"\\', 'b"\\'),
        sinks=[SinkQueue("log", _Keeps()), SinkQueue("log", _Keeps())],
    )
    wait_for(lambda: served.station.sinks[0].state()["delivered"] >= 3 and served.last("cam") and served.last('b"\\'))
    for name in ("windows", "encoder_runs", "decoder_runs", "events"):
        assert metric(served.url, f"vlj_edge_{name}_total", source="cam") >= 1
    for name in ("windows_dropped", "frames_dropped", "source_restarts", "bad_frames"):
        assert metric(served.url, f"vlj_edge_{name}_total", source="cam") >= 0
    assert metric(served.url, "vlj_edge_source_state", source='b"\\', state="live") == 1
    assert metric(served.url, "vlj_edge_sink_delivered_total", sink="log") >= 2
    assert metric(served.url, "vlj_edge_sink_missed_total", sink="log 2") == 0
    assert metric(served.url, "vlj_edge_sink_queued", sink="log 2") >= 0
    assert metric(served.url, "vlj_edge_memory_bytes") > 1e7
    assert metric(served.url, "vlj_edge_clients") == 0
