"""Files of gates: what is not named is the bundle's, what is wrong is refused in one line, and what is odd is said."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import vlj_edge
from vlj_edge import VljEdgeError
from vlj_edge.bundle import BudgetSettings, GateSettings, MeaningGateSettings, read_manifest
from vlj_edge.bundle.gate_profile import (
    BundleIdentity,
    GateProfile,
    ProfileReceipt,
    read_gate_profile,
    write_gate_profile,
)

GATES = GateSettings(meaning=MeaningGateSettings(speak_below=0.5, look_every=3.0))


def write(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_what_is_written_is_read(tmp_path: Path) -> None:
    made = ProfileReceipt("door", 3600.0, "2026-11-28T00:00:00+00:00", BundleIdentity(4, "abc", "tiny"))
    profile = GateProfile(GATES, 0.7, made)
    write_gate_profile(tmp_path / "gates.json", profile)
    assert read_gate_profile(tmp_path / "gates.json", GateSettings()) == profile


def test_a_file_sets_no_budget_unless_it_names_one(tmp_path: Path) -> None:
    default = GateSettings(budget=BudgetSettings(texts_per_hour=20))
    write_gate_profile(tmp_path / "gates.json", GateProfile(GATES))
    assert read_gate_profile(tmp_path / "gates.json", default).gates.budget.texts_per_hour == 20
    named = write(tmp_path / "named.json", {"gates": {"budget": {"texts_per_hour": 5}}})
    assert read_gate_profile(named, default).gates.budget.texts_per_hour == 5


def test_what_a_file_does_not_name_is_the_bundles(tmp_path: Path) -> None:
    path = write(tmp_path / "gates.json", {"gates": {"meaning": {"look_every": 7}, "memory": {"capacity": 3}}})
    gates = read_gate_profile(path, GATES).gates
    assert gates == replace(
        GATES, meaning=replace(GATES.meaning, look_every=7.0), memory=replace(GATES.memory, capacity=3)
    )


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ({"gates": {"meaning": {"speak_below": "0.5"}}}, "speak_below"),
        ({"gates": {"meaning": {"speak_below": True}}}, "speak_below"),
        ({"gates": {"meaning": {"speak_bellow": 0.5}}}, "speak_bellow"),
        ({"gates": {"meanings": {}}}, "meanings"),
        ({"gates": {"meaning": {"smoothing": 0}}}, "smoothing"),
        ({"gates": {"memory": {"capacity": 10**9}}}, "capacity"),
        ({"gates": {"meaning": {"look_every": 1e30}}}, "look_every"),
        ({"gates": {}, "novel_below": 2}, "novel_below"),
        ({"gates": {}, "thresholds": 1}, "thresholds"),
        ({"gates": [1]}, "gates"),
        ({"novel_below": 0.5}, "gates"),
        ({"gates": {}, "schema_version": 99}, "99"),
        ([], "gates.json"),
        ("", "gates.json"),
        ("{", "gates.json"),
        ('{"gates": {"meaning": {"speak_below": NaN}}}', "speak_below"),
        ("[" * 100_000, "gates.json"),
        ("\x00\xff", "gates.json"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_what_is_wrong_in_a_file_is_refused_in_one_line(content: Any, named: str, tmp_path: Path) -> None:
    path = write(tmp_path / "gates.json", content)
    with pytest.raises(VljEdgeError) as refused:
        read_gate_profile(path, GateSettings())
    text = str(refused.value)
    assert named in text and "gates.json" in text and "\n" not in text and len(text) < 500


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(VljEdgeError, match=path.name):
            read_gate_profile(path, GateSettings())


def test_a_model_takes_a_file_or_settings(tiny_bundle: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "gates.json", {"gates": {"meaning": {"speak_below": 0.5}}})
    for gates in (path, str(path), replace(GateSettings(), meaning=MeaningGateSettings(speak_below=0.5))):
        with vlj_edge.load(tiny_bundle, gates=gates) as model:
            assert model.manifest.gates.meaning.speak_below == 0.5
    with pytest.raises(VljEdgeError, match="smoothing"):
        vlj_edge.load(tiny_bundle, gates=GateSettings(meaning=MeaningGateSettings(smoothing=0)))


@pytest.mark.parametrize(
    ("changed", "named"), [({}, None), ({"embedding": 8}, "8"), ({"space": "other"}, "another bundle")]
)
def test_gates_of_another_bundle_are_used_with_a_warning(
    changed: dict[str, Any], named: str | None, tiny_bundle: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    identity = replace(BundleIdentity.of(read_manifest(tiny_bundle)), **changed)
    path = tmp_path / "gates.json"
    write_gate_profile(path, GateProfile(GATES, made=ProfileReceipt(bundle=identity)))
    logging.getLogger("vlj_edge").propagate = True
    with caplog.at_level(logging.WARNING), vlj_edge.load(tiny_bundle, gates=path) as model:
        assert model.manifest.gates.meaning == GATES.meaning
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == (named is not None)
    if named is not None:
        assert named in said[0] and "vlj-edge calibrate" in said[0] and "\n" not in said[0]


def test_cosines_of_a_file_are_the_models_unless_it_says_that_they_are_relative(tmp_path: Path) -> None:
    default = GateSettings(meaning=MeaningGateSettings(relative=True))
    for named, relative in (
        ({"speak_below": 0.9}, False),
        ({"same_above": 0.99}, False),
        ({"speak_below": 0.9, "relative": True}, True),
        ({"look_every": 2.0}, True),
    ):
        path = write(tmp_path / "gates.json", {"gates": {"meaning": named}})
        assert read_gate_profile(path, default).gates.meaning.relative is relative
        assert not read_gate_profile(path, GateSettings()).gates.meaning.relative or relative


@pytest.mark.parametrize(
    ("gate", "name", "value", "limit"),
    [
        ("meaning", "least_hold", -1, "at least 0"),
        ("meaning", "speak_below", 1.5, "at most 1"),
        ("meaning", "smoothing", 0, "at least 1"),
        ("memory", "same", -7, "at least -1"),
        ("scene", "cells", -0.1, "at least 0"),
        ("rest", "seconds", float("nan"), "at least 0"),
        ("meaning", "settle", float("inf"), "at least 0"),
        ("meaning", "speak_below", "0.8", "at least -1"),
        ("scene", "times_noise", None, "at least 0"),
        ("memory", "capacity", 1.5, "at most 65536"),
        ("meaning", "speak_bellow", 0.8, "speak_below"),
    ],
)
def test_impossible_numbers_name_file_key_and_range(
    gate: str, name: str, value: Any, limit: str, tiny_bundle: Path, tmp_path: Path
) -> None:
    path = write(tmp_path / "gates.json", {"gates": {gate: {name: value}}})
    with pytest.raises(VljEdgeError) as caught:
        vlj_edge.load(tiny_bundle, gates=path)
    said = str(caught.value)
    assert str(path) in said and f"gates.{gate}.{name}" in said and limit in said and "\n" not in said
