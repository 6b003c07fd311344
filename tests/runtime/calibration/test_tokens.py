"""Whether a bundle may leave out tokens: by what its texts lose on a recording, and how surely."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import vlj_edge
from vlj_edge.bundle import Tokens, nano_bundle, read_manifest
from vlj_edge.bundle.gate_profile import GateProfile, with_gates, write_gate_profile
from vlj_edge.errors import VljEdgeError
from vlj_edge.runtime.calibration.figures import Figures
from vlj_edge.runtime.calibration.tokens import TokenTrial
from vlj_edge.runtime.gating.kept_tokens import check_choice


def blocks(*agreed: float) -> tuple[Figures, ...]:
    """Return blocks of 10 s in which the text is right for so many seconds."""
    return tuple(Figures(10, 10, each, 1, 1, 1) for each in agreed)


@pytest.mark.parametrize(
    ("share", "kept", "proposed"),
    [
        (0.5, blocks(8, 8, 8, 8, 8), "auto"),  # nothing is lost
        (0.5, blocks(9, 9, 9, 9, 9), "auto"),  # chance made it better
        (0.5, blocks(8, 8, 8, 8, 7), "all"),  # 2.5 % are lost
        (0.5, blocks(10, 10, 3, 8, 9), "all"),  # nothing is lost in all, but it may have been chance
        (1.0, blocks(8, 8, 8, 8, 8), "all"),  # nothing is saved
    ],
)
def test_parts_are_proposed_only_where_the_texts_stay_right(
    share: float, kept: tuple[Figures, ...], proposed: str
) -> None:
    trial = TokenTrial(share, 0.99, blocks(8, 8, 8, 8, 8), kept)
    assert trial.proposed == trial.as_dict()["proposed"] == proposed
    low, high = trial.interval
    assert low <= trial.difference <= high


def test_a_file_of_gates_asks_for_tokens_and_the_caller_has_the_last_word(tmp_path: Path) -> None:
    manifest = replace(read_manifest(nano_bundle()), tokens=Tokens(2, 6, (36, 72, 144)))
    assert check_choice(None, manifest) == "all"
    write_gate_profile(tmp_path / "gates.json", GateProfile(manifest.gates, tokens="auto"))
    asked = with_gates(manifest, tmp_path / "gates.json")
    assert check_choice(None, asked) == "auto"
    assert check_choice("all", asked) == "all"


def test_a_file_that_asks_for_tokens_does_not_hinder_a_bundle_that_has_all_alone(tmp_path: Path) -> None:
    write_gate_profile(tmp_path / "gates.json", GateProfile(read_manifest(nano_bundle()).gates, tokens="auto"))
    with vlj_edge.load(gates=tmp_path / "gates.json") as model:
        assert model.tokens == "all"
    with pytest.raises(VljEdgeError, match="--token-shares"):
        vlj_edge.load(gates=tmp_path / "gates.json", tokens="auto")
