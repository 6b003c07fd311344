"""/api/sources/NAME/gates and noise.png: what the gates decided in the last minute, and what they go by."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import PIL.Image

from tests.runtime.service.http.server import Camera, Serve, Served
from tests.runtime.tiny_bundle import BLUE, RED
from tests.waiting import wait_for
from vlj_edge import Check
from vlj_edge.bundle import GateSettings, MeaningGateSettings
from vlj_edge.runtime.service.http.gate_routes import noise_png
from vlj_edge.runtime.service.settings import SourceSettings
from vlj_edge.runtime.video.source import Source

PATH = "/api/sources/cam/gates"


def gates_once(served: Served, ready: str) -> dict[str, Any]:
    """The response once it has something in the field `ready`."""
    with served.client() as client:
        wait_for(lambda: bool(client.get(PATH).json()[ready]))
        found: dict[str, Any] = client.get(PATH).json()
        return found


def test_every_window_of_the_last_minute_is_explained(serve: Serve) -> None:
    found = gates_once(serve(), "texts")
    assert found["name"] == "cam" and found["windows"]
    times = [window["time"] for window in found["windows"]]
    assert times == sorted(times) and times[-1] - times[0] <= 60
    assert {text["time"] for text in found["texts"]} <= {w["time"] for w in found["windows"] if w["spoke"]}
    for window in found["windows"]:
        gates = [decision["gate"] for decision in window["decisions"]]
        assert gates[:2] == ["rest", "meaning"] and set(gates[2:]) <= {"scene"}
        assert window["decisions"][1]["verdict"] == "text" or not window["spoke"]
        assert window["rest"] and window["encoder"] and window["meaning"]
        for check in (check for decision in window["decisions"] for check in decision["checks"]):
            if check["value"] is not None:
                assert Check(**{name: check[name] for name in Check._fields}).holds == check["holds"]
    for text in found["texts"]:
        assert text["decision"]["gate"] == "memory" and text["origin"] in ("decoder", "memory")


def test_it_is_bounded(serve: Serve, cameras: dict[str, Source]) -> None:
    cameras["cam"] = Camera([RED, BLUE], seconds=2.0, speed=400)
    served = serve(SourceSettings("cam", "cam"))
    with served.client() as client:
        wait_for(lambda: served.station.channels["cam"].statistics.counts()["windows"] > 400)
        found = client.get(PATH).json()
    assert 0 < len(found["windows"]) <= 121  # two a second
    assert all(found["windows"][-1]["time"] - text["time"] <= 60 for text in found["texts"])


def test_only_what_is_new_is_sent_after_a_number(serve: Serve) -> None:
    served = serve()
    found = gates_once(served, "texts")
    with served.client() as client:
        wait_for(lambda: client.get(PATH, params={"after": found["number"]}).json()["windows"])
        later = client.get(PATH, params={"after": found["number"]}).json()
        assert client.get(PATH, params={"after": -1}).status_code == 422
    assert len(later["windows"]) == later["number"] - found["number"] > 0
    assert later["windows"][0]["time"] > found["windows"][-1]["time"]


def test_thresholds_say_what_lowers_them(serve: Serve, cameras: dict[str, Source]) -> None:
    cameras["cam"] = Camera([RED])
    gates = GateSettings(meaning=MeaningGateSettings(speak_below=0.9, forget_above=0.99, look_at_rest=0.0))
    served = serve(SourceSettings("cam", "cam", gates=gates))
    before = gates_once(served, "windows")
    thresholds = {each["name"]: each for each in before["thresholds"]}
    assert {"rest.changed", "scene.changed", "meaning.speak_below", "meaning.same_above"} <= thresholds.keys()
    assert thresholds["meaning.speak_below"] == {"name": "meaning.speak_below", "as_set": 0.9, "now": 0.9, "why": ""}
    served.station.learned.of(served.station.channels["cam"].settings).embedding.restore([0.95] * 25)
    now = {each["name"]: each for each in gates_once(served, "windows")["thresholds"]}
    assert now["meaning.speak_below"]["now"] < 0.9 and "0.95" in now["meaning.speak_below"]["why"]


def test_the_noise_map_shows_where_it_is_noisy(serve: Serve) -> None:
    served = serve()
    found = gates_once(served, "windows")
    assert found["noise"]["pictures"] > 0 and 0 < found["noise"]["typical"] <= found["noise"]["highest"] <= 0.04
    with served.client() as client:
        answer = client.get("/api/sources/cam/noise.png")
    assert answer.headers["content-type"] == "image/png"
    noise = served.station.learned.of(served.station.channels["cam"].settings).picture
    cells = np.full((32, 32), 0.0003)
    cells[8, 20] = 0.04
    noise.restore(cells, 100)
    with PIL.Image.open(io.BytesIO(noise_png(noise))) as image:
        pixels = np.asarray(image)
    assert pixels.shape == (128, 128) and np.unravel_index(pixels.argmax(), pixels.shape) == (32, 80)
    assert pixels.max() == 255 and pixels[0, 0] < 64


def test_what_is_learned_stays_when_settings_change(serve: Serve) -> None:
    served = serve()
    gates_once(served, "windows")
    channel = served.station.channels["cam"]
    noise = served.station.learned.of(channel.settings)
    seen = noise.picture.seen
    with served.client() as client:
        assert client.put("/api/sources/cam/settings", json={"least_hold": 1.5}).status_code == 200
        wait_for(lambda: noise.picture.seen > seen + 20)
        assert served.station.learned.of(channel.settings) is noise
        assert client.put("/api/sources/cam/settings", json={"query": "What is red?"}).status_code == 200
        assert served.station.learned.of(channel.settings) is not noise, "embeddings of another query differ otherwise"


def test_an_unknown_source_has_none(serve: Serve) -> None:
    with serve().client() as client:
        for what in ("gates", "noise.png"):
            answer = client.get(f"/api/sources/nobody/{what}")
            assert answer.status_code == 404 and "/api/state" in answer.json()["error"]
