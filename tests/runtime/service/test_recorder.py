"""Recordings of cameras can be searched."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.runtime.tiny_bundle import BLUE, RED
from vlj_edge import VljEdgeError
from vlj_edge.runtime.library import Store, search
from vlj_edge.runtime.model import Model
from vlj_edge.runtime.service.recorder import Recorder
from vlj_edge.runtime.service.settings import SourceSettings
from vlj_edge.runtime.service.station import Station

QUERY = "what colour is it"


def test_recorded_windows_are_found(tiny_bundle: Path, make_video: Callable[..., Path], tmp_path: Path) -> None:
    model = Model(tiny_bundle)
    film = make_video([(RED, 3), (BLUE, 3)])
    recorder = Recorder(Store(tmp_path / "seen", model.manifest, QUERY, write=True), QUERY, pause=0.05)
    sources = [SourceSettings("door", str(film), QUERY), SourceSettings("other", str(film), "describe")]
    station = Station(model, sources, on_report=recorder.add)
    station.start()
    station.wait(0.01)
    station.stop()
    recorder.close()
    recorder.close()
    store = Store(tmp_path / "seen", model.manifest)
    assert recorder.stored == len(store)
    assert 0 < station.channels["door"].counts()["predictor_runs"] <= len(store) <= 11, "less than windows"
    [red] = search(store, model.embed_text("red"), top=1)
    assert red.file.startswith("door 20") and red.score > 0.9 and 0 <= red.start < red.end
    assert all(path.startswith("door ") for path in store.videos()), (
        "what was asked another question cannot be compared"
    )


def test_a_store_that_cannot_be_written_is_tried_again(
    tiny_bundle: Path, make_video: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Model(tiny_bundle)
    store = Store(tmp_path / "seen", model.manifest, QUERY, write=True)
    real, failures = store.put, [1, 1]

    def put(moments: object) -> None:
        if failures:
            failures.pop()
            raise VljEdgeError("the disk is full")
        real(moments)  # type: ignore[arg-type]

    monkeypatch.setattr(store, "put", put)
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
