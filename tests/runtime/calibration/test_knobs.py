"""Settings that are drawn and varied are ones that the gates take, whatever they start from."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vlj_edge.bundle import GateSettings, MeaningGateSettings, nano_bundle, read_manifest
from vlj_edge.bundle.gate_ranges import check_gates
from vlj_edge.runtime.calibration.knobs import Knobs
from vlj_edge.runtime.calibration.novelty import NoveltyCandidates
from vlj_edge.runtime.gating.meaning import MeaningGate

NANO = read_manifest(nano_bundle()).gates
MOVED = {"speak_below", "speak_below_at_rest", "forget_above", "same_above", "look_every", "longest_look"}
MOVED |= {"look_at_rest", "settle", "settle_moving", "settle_resting", "least_hold", "enabled", "same", "same_at_rest"}
cosines = st.floats(-1, 1)
own = st.builds(
    lambda speak, rest, same, look: replace(
        NANO,
        meaning=MeaningGateSettings(
            speak_below=speak,
            speak_below_at_rest=rest,
            forget_above=max(speak, rest),
            same_above=same,
            look_every=look,
        ),
    ),
    cosines,
    cosines,
    cosines,
    st.floats(0, 100),
)


@given(own, st.integers(0, 1000))
def test_all_that_is_drawn_and_varied_is_taken_by_the_gates(gates: GateSettings, seed: int) -> None:
    rng, knobs = np.random.default_rng(seed), Knobs(gates)
    drawn = knobs.draw(rng)
    for each in (drawn, knobs.vary(rng, drawn), knobs.vary(rng, gates)):
        check_gates(each)
        MeaningGate(each.meaning)
        assert -1 < each.meaning.speak_below < 1 and each.meaning.look_at_rest <= 60, "it would be deaf"
        for gate, settings in asdict(each).items():
            for name, value in settings.items():
                assert value == asdict(gates)[gate][name] or (gate in ("meaning", "memory") and name in MOVED), name


def test_a_variation_differs_and_stays_near() -> None:
    rng, knobs = np.random.default_rng(0), Knobs(NANO)
    varied = [knobs.vary(rng, NANO) for _ in range(200)]
    assert np.mean([each != NANO for each in varied]) > 0.9  # a few end at the same limit
    assert 0.9 < np.median([each.meaning.speak_below for each in varied]) < 0.99


def test_thresholds_of_novelty_are_cosines() -> None:
    rng, candidates = np.random.default_rng(0), NoveltyCandidates()
    for _ in range(100):
        drawn = candidates.draw(rng)
        assert 0 <= drawn < 1 and 0 <= candidates.vary(rng, drawn) < 1
    assert 0 <= candidates.vary(rng, 1.0) < 1
