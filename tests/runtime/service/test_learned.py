"""What the gates learn of a source outlives a restart, and a file that holds anything else is ignored."""

from __future__ import annotations

import json
import logging
import os
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.waiting import wait_for
from vlj_edge import StreamNoise, WindowReport
from vlj_edge.errors import VljEdgeError
from vlj_edge.runtime.gating.embedding_spread import Moments
from vlj_edge.runtime.gating.stream_noise import thresholds_now
from vlj_edge.runtime.model import Model
from vlj_edge.runtime.service import learned as learned_module
from vlj_edge.runtime.service.learned import LearnedNoise
from vlj_edge.runtime.service.settings import SourceSettings
from vlj_edge.runtime.video.part import Part

DOOR = SourceSettings("door", "rtsp://me:secret@10.0.0.5/1")


@pytest.fixture
def model(tiny_bundle: Path) -> Model:
    return Model(tiny_bundle)


def noisy_camera(seconds: int, noise: float, seed: int) -> np.ndarray:
    """A still picture in the noise of a camera at night, at nano's own rate: uint8 [frames, 128, 128, 3]."""
    scene = np.kron(np.random.default_rng(0).integers(60, 200, (8, 8, 3)), np.ones((16, 16, 1)))
    grain = np.random.default_rng(seed).normal(0, noise, (4 * seconds, 32, 32, 1)).repeat(4, 1).repeat(4, 2)
    return np.clip(scene + grain, 0, 255).astype(np.uint8)


def narrated(model: Model, frames: np.ndarray, noise: StreamNoise) -> tuple[list[bool], int]:
    """Whether each window is at rest, and the number of texts."""
    reports: list[WindowReport] = []
    list(model.narrate(frames, noise=noise, watch=reports.append))
    return [report.resting for report in reports], sum(report.spoke for report in reports)


def after_a_restart(model: Model, path: Path) -> StreamNoise:
    return LearnedNoise(model.manifest, path).of(DOOR)


def test_a_noisy_camera_is_known_from_the_first_window_after_a_restart(nano: Model, tmp_path: Path) -> None:
    path = tmp_path / "learned.json"
    with LearnedNoise(nano.manifest, path) as learned:
        fresh, _ = narrated(nano, noisy_camera(40, 6.0, 1), learned.of(DOOR))
    known, _ = narrated(nano, noisy_camera(20, 6.0, 2), after_a_restart(nano, path))
    assert sum(fresh[:30]) < 10, "it has to learn that this is noise"
    assert sum(known[:30]) >= 25 and sum(fresh[-30:]) >= 25


def test_a_very_noisy_camera_does_not_chatter_after_a_restart(nano: Model, tmp_path: Path) -> None:
    path = tmp_path / "learned.json"
    with LearnedNoise(nano.manifest, path) as learned:
        _, fresh = narrated(nano, noisy_camera(60, 16.0, 1), learned.of(DOOR))
    _, known = narrated(nano, noisy_camera(60, 16.0, 2), after_a_restart(nano, path))
    assert fresh > 2 and known == 1


def test_what_was_kept_is_forgotten_as_it_was_learned(nano: Model, tmp_path: Path) -> None:
    path = tmp_path / "learned.json"
    with LearnedNoise(nano.manifest, path) as learned:
        narrated(nano, noisy_camera(60, 16.0, 1), learned.of(DOOR))
    noise = after_a_restart(nano, path)
    before = float(np.median(noise.picture.median))
    narrated(nano, noisy_camera(60, 1.0, 3), noise)
    assert np.median(noise.picture.median) < before / 5


def test_everything_that_was_learned_is_kept(model: Model, tmp_path: Path) -> None:
    path, rng = tmp_path / "learned.json", np.random.default_rng(0)
    with LearnedNoise(model.manifest, path) as learned:
        noise = learned.of(DOOR)
        noise.picture.restore(rng.uniform(0.001, 0.04, (32, 32)), 1000, 0.0125)
        noise.embedding.restore([0.99, 0.98, 0.97, 0.98, 0.99, 0.95])
        noise.embedding.spread.restore([0.01, 0.02, 0.01, 0.02, 0.01], Moments(0.1, 0.12, 0.08))
    found = after_a_restart(model, path)
    np.testing.assert_allclose(found.picture.median, noise.picture.median, atol=1e-6)
    assert (found.picture.seen, found.embedding.cosines) == (1000, noise.embedding.cosines)
    assert found.picture.bursts == 0.0125
    spread = noise.embedding.spread
    assert found.embedding.spread.neighbours == spread.neighbours
    assert (found.embedding.spread.noise, found.embedding.spread.moments) == (0.01, Moments(0.1, 0.12, 0.08))
    assert found.embedding.level == noise.embedding.level < 1
    gates = model.manifest.gates
    assert [each.name for each in thresholds_now(gates, found)] == [each.name for each in thresholds_now(gates, noise)]
    assert any(each.why and each.now < each.as_set for each in thresholds_now(gates, found))
    assert "secret" not in path.read_text() and "10.0.0.5" not in path.read_text()


@pytest.mark.parametrize(
    "change", [{"uri": "rtsp://10.0.0.6/1"}, {"rotate": 90}, {"query": "What is red?"}, {"name": "hall"}]
)
def test_another_source_learns_anew(model: Model, tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "learned.json"
    with LearnedNoise(model.manifest, path) as learned:
        known = learned.of(DOOR)
        known.picture.restore(np.full((32, 32), 0.02), 100)
        assert learned.of(replace(DOOR, **change)) is not known, "also while it runs"
    with LearnedNoise(model.manifest, path) as learned:
        learned.of(DOOR).picture.restore(np.full((32, 32), 0.02), 100)
    assert LearnedNoise(model.manifest, path).of(replace(DOOR, **change)).picture.seen == 0
    assert LearnedNoise(model.manifest, path).of(DOOR).picture.seen == 100


def test_the_same_source_is_known_whatever_else_is_changed(model: Model, tmp_path: Path) -> None:
    learned = LearnedNoise(model.manifest)
    same = [
        replace(DOOR, labels=("a", "b")),
        replace(DOOR, gates=model.manifest.gates),
        replace(DOOR, uri="rtsp://me:another@10.0.0.5/1"),
        replace(DOOR, part=Part(end=100.0)),
        replace(DOOR, query=model.manifest.default_query),
    ]
    assert len({id(learned.of(each)) for each in [DOOR, *same]}) == 1


def test_other_weights_learn_anew(model: Model, nano: Model, tmp_path: Path) -> None:
    path = tmp_path / "learned.json"
    with LearnedNoise(model.manifest, path) as learned:
        learned.of(DOOR).picture.restore(np.full((32, 32), 0.02), 100)
    assert LearnedNoise(nano.manifest, path).of(DOOR).picture.seen == 0


def test_a_source_that_was_not_there_keeps_what_it_had(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "learned.json"
    with LearnedNoise(model.manifest, path) as learned:
        learned.of(DOOR).picture.restore(np.full((32, 32), 0.02), 100)
    with LearnedNoise(model.manifest, path) as learned:
        learned.of(SourceSettings("hall", "0"))
    assert LearnedNoise(model.manifest, path).of(DOOR).picture.seen == 100


def saved(model: Model, path: Path) -> dict[str, Any]:
    with LearnedNoise(model.manifest, path) as learned:
        learned.of(DOOR).picture.restore(np.full((32, 32), 0.02), 100)
    found: dict[str, Any] = json.loads(path.read_text())
    return found


DAMAGE: list[dict[str, Any]] = [
    {"moments": [0.1]},
    {"neighbours": [3.0]},
    {"noise": [0.01] * 1023},
    {"noise": [0.01] * 1023 + [float("nan")]},
    {"noise": [0.01] * 1023 + [float("inf")]},
    {"noise": [0.01] * 1023 + [1e9]},
    {"noise": [0.01] * 1023 + [-0.01]},
    {"noise": [0.01] * 1023 + ["0.01"]},
    {"noise": [[0.01] * 32] * 32},
    {"noise": None},
    {"seen": -1},
    {"seen": 1.5},
    {"seen": 10**400},
    {"cosines": [1.1]},
    {"cosines": [float("nan")] * 6},
    {"cosines": [0.9] * 1000},
    {"cosines": "0.9"},
    {"of": 1},
    {"more": 1},
]


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: next(iter(damage)))
def test_a_damaged_source_is_learned_anew_and_logged_once(
    model: Model, tmp_path: Path, damage: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "learned.json"
    raw = saved(model, path)
    hall = {**raw["sources"]["door"], **damage}
    path.write_text(json.dumps({"version": 1, "sources": {"hall": hall, "yard": hall, **raw["sources"]}}))
    with caplog.at_level(logging.WARNING):
        learned = LearnedNoise(model.manifest, path)
    assert len(caplog.records) == 1 and "learned.json" in caplog.text
    assert learned.of(replace(DOOR, name="hall")).picture.seen == 0
    assert learned.of(DOOR).picture.seen == 100, "the others are used"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not JSON",
        b"\xff\xfe",
        b"[]",
        b"null",
        b"[" * 100_000,
        b'{"version": 2, "sources": {}}',
        b'{"version": true, "sources": {}}',
        b'{"sources": {}}',
        b'{"version": 1, "sources": []}',
        b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94\x8c\x06system\x94\x93\x94.",  # a pickle
    ],
)
def test_a_file_of_anything_else_is_ignored_and_replaced(
    model: Model, tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "learned.json"
    path.write_bytes(content)
    with caplog.at_level(logging.WARNING), LearnedNoise(model.manifest, path) as learned:
        assert learned.of(DOOR).picture.seen == 0
    assert len(caplog.records) == 1 and "learned.json" in caplog.text
    assert json.loads(path.read_text())["version"] == 1
    assert path.with_name("learned.json.unused").read_bytes() == content, "it may be somebody's"


def test_a_pipe_is_refused_at_once(model: Model, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(VljEdgeError, match="is a pipe"):
        LearnedNoise(model.manifest, tmp_path / "pipe")


def test_a_file_that_is_too_large_is_not_read(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "learned.json"
    saved(model, path)
    monkeypatch.setattr(learned_module, "_MOST_BYTES", 1000)
    assert LearnedNoise(model.manifest, path).of(DOOR).picture.seen == 0
    assert len(caplog.records) == 1


def test_the_number_of_sources_is_bounded(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learned_module, "_MOST_SOURCES", 3)
    path = tmp_path / "learned.json"
    with LearnedNoise(model.manifest, path) as learned:
        for number in range(10):
            learned.of(SourceSettings(str(number), "0"))
    assert list(json.loads(path.read_text())["sources"]) == ["7", "8", "9"]


def test_it_is_saved_while_it_runs_and_a_full_disk_is_logged_once(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(learned_module, "_SAVE_EVERY", 0.01)
    path = tmp_path / "folder" / "learned.json"
    with LearnedNoise(model.manifest, path) as learned:
        learned.of(DOOR)
        wait_for(lambda: bool(caplog.records))
        learned.save()
        assert len(caplog.records) == 1 and "learned.json cannot be written" in caplog.text
        path.parent.mkdir()
        wait_for(path.exists)
        assert "door" in json.loads(path.read_text())["sources"]


def test_without_a_file_nothing_is_written_or_started(model: Model) -> None:
    before = threading.active_count()
    with LearnedNoise(model.manifest) as learned:
        assert learned.of(DOOR) is learned.of(DOOR)
        assert threading.active_count() == before
