"""A gate's setting out of its range is one line, wherever it comes from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.bundle.damage import edit, refusal
from vlj_edge.bundle import (
    BudgetSettings,
    CaptionMemorySettings,
    GateSettings,
    MeaningGateSettings,
    RestSettings,
    read_manifest,
)
from vlj_edge.runtime.model import Model
from vlj_edge.runtime.service.config import read_config
from vlj_edge.schema import shown

WRONG = [("memory", "capacity", -1), ("memory", "capacity", 10**18), ("meaning", "smoothing", 0),
         ("meaning", "calm_windows", 10**9), ("meaning", "least_hold", 1e300), ("rest", "seconds", -1.0),
         ("budget", "texts_per_hour", -1.0), ("budget", "encodes_per_minute", 1e300)]  # fmt: skip
KINDS = {
    "memory": CaptionMemorySettings,
    "meaning": MeaningGateSettings,
    "rest": RestSettings,
    "budget": BudgetSettings,
}


@pytest.mark.parametrize(("gate", "name", "value"), WRONG)
def test_from_a_manifest_a_configuration_and_python(bundle: Path, gate: str, name: str, value: Any) -> None:
    gates = replace(GateSettings(), **{gate: KINDS[gate](**{name: value})})
    with Model(bundle) as model:
        frames = [(0.25 * number, np.zeros((32, 32, 3), np.uint8)) for number in range(8)]
        assert name in refusal(lambda: list(model.narrate(frames, gates=gates)))
    (bundle.parent / "serve.toml").write_text(
        f"[[source]]\nname = 'a'\nuri = 'b'\n[source.gates.{gate}]\n{name} = {value}\n"
    )
    found = read_config(bundle.parent / "serve.toml").sources(GateSettings())[0].gates
    assert getattr(getattr(found, gate), name) == value  # serve checks it with check_settings()
    edit(bundle, lambda raw: raw["gates"][gate].update({name: value}))
    assert name in refusal(lambda: read_manifest(bundle))


def test_a_number_of_any_length_is_refused_in_a_manifest(bundle: Path) -> None:
    for name in ("capacity", "same_above"):
        edit(bundle, lambda raw, name=name: raw["gates"]["memory"].update({name: 10**400}))
        assert f"memory.{name}" in refusal(lambda: read_manifest(bundle))


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), -float("inf"), 10**400, 1 << 20_000, "3", None], ids=shown
)
def test_what_is_no_number_is_refused_from_python(bundle: Path, value: Any) -> None:
    with Model(bundle) as model:
        frames = [(0.25 * number, np.zeros((32, 32, 3), np.uint8)) for number in range(8)]
        gates = GateSettings(rest=RestSettings(seconds=value))
        assert "rest.seconds" in refusal(lambda: list(model.narrate(frames, gates=gates)))
