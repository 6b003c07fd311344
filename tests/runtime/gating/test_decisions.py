"""What the gates say that they decided is what they did, and follows from the numbers that they state."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.runtime.gating.test_meaning import settings_of_meaning, streams
from tests.runtime.gating.windows import SIZE, STEP, at_angle, picture, window_at
from tests.runtime.lifetimes import Colours
from vlj_edge import Check, Decision, TextReport, WindowReport, bundle
from vlj_edge.runtime.gating.caption_memory import CaptionMemory
from vlj_edge.runtime.gating.meaning import MeaningGate
from vlj_edge.runtime.gating.picture_noise import PictureNoise
from vlj_edge.runtime.gating.rest import RestDetector
from vlj_edge.runtime.gating.scene import SceneGate
from vlj_edge.runtime.model import Model
from vlj_edge.runtime.video.preprocess import THUMBNAIL

COMPARED = ("speak_below", "speak_below_at_rest", "forget_above", "same_above")
LOOKS = ("look_every", "look_at_rest")


def holds(check: Check) -> bool:
    """The comparison, made again from its numbers alone."""
    return {
        "<": check.value < check.bound,
        "<=": check.value <= check.bound,
        ">": check.value > check.bound,
        ">=": check.value >= check.bound,
    }[check.operator]


def verdict_of_meaning(decision: Decision) -> str:
    """The verdict that docs/gates.md gives these checks and this cause."""
    checks = list(decision.checks)
    if decision.cause == "overdue":
        assert checks[0].name == "least_hold" and holds(checks[0])
        assert holds(checks[1]) or checks[1].name != "same_above"
        return "text"
    if decision.cause is None:
        if checks and checks[-1].name == "forget_above":
            assert not holds(checks[-1])
            return "dropped"
        looked = [check for check in checks if check.name in COMPARED[:2]]
        assert not any(map(holds, looked))
        return "same" if looked else "skipped"
    last = {check.name: check for check in checks}
    settled = [check for check in last.values() if check.name.startswith("settle")]
    if not holds(last["least_hold"]) or not settled or not holds(settled[0]):
        return "waits"
    if decision.cause == "turn" and checks[-1].name == "same_above" and not holds(checks[-1]):
        return "same"
    return "text"


@given(settings_of_meaning, streams(), st.integers(0, 2**32 - 1))
def test_the_meaning_gate_does_what_its_numbers_say(
    settings: bundle.MeaningGateSettings, stream: list[np.ndarray], seed: int
) -> None:
    settings = replace(settings, smoothing=1)
    gate, rng, resting = MeaningGate(settings), np.random.default_rng(seed), None
    for index, embedding in enumerate(stream):
        resting = bool(rng.integers(2)) if rng.random() < 0.3 else resting
        window, last = window_at(index * STEP, embedding, resting), gate.last_embedding
        change = gate.offer(window)
        decision = gate.decision
        assert (decision.gate, decision.window) == ("meaning", window.times.index)
        assert (decision.verdict == "text") == (change is not None)
        assert decision.verdict == verdict_of_meaning(decision)
        assert all(check.holds == holds(check) for check in decision.checks)
        compared = [check for check in decision.checks if check.name in COMPARED]
        looks = [check for check in decision.checks if check.name in LOOKS]
        if decision.cause != "overdue" and len(compared) == 1 and last is not None and window.is_encoded:
            assert compared[0].value == pytest.approx(float(embedding @ last), abs=1e-5)
        assert all(check.as_set == getattr(settings, check.name) for check in decision.checks)
        assert all(check.bound <= check.as_set for check in compared), "noise lowers thresholds"
        assert all(check.bound >= check.as_set for check in looks), "texts let the time between two looks grow"


def test_what_the_meaning_gate_waits_for_is_stated_in_seconds() -> None:
    settings = bundle.MeaningGateSettings(calm_windows=1, look_every=2.0, longest_look=2.0, settle=1.0, same_above=0.99)
    gate = MeaningGate(settings)
    found = []
    for index, degrees in enumerate([0, 0, 0, 0, 90, 90, 90, 90, 90, 90, 90]):
        gate.offer(window_at(index * STEP, at_angle(degrees)))
        last = gate.decision.checks[-1]
        found.append((gate.decision.verdict, gate.decision.cause, last.name, last.value))
    assert found[:4] == [
        ("waits", "first", "settle", 0.0),
        ("waits", "first", "settle", 0.5),
        ("text", "first", "settle", 1.0),
        ("skipped", None, "look_every", 0.5),
    ]
    assert found[5:10] == [
        ("skipped", None, "look_every", 1.5),
        ("waits", "change", "settle", 0.0),
        ("waits", "change", "settle", 0.5),
        ("text", "change", "settle", 1.0),
        ("skipped", None, "look_every", 0.5),
    ]


def test_a_threshold_that_noise_lowers_says_from_what_to_what() -> None:
    settings = bundle.MeaningGateSettings(calm_windows=1, speak_below_at_rest=0.995, forget_above=0.999)
    gate, rng, found = MeaningGate(settings), np.random.default_rng(0), []
    for index in range(40):
        gate.offer(window_at(index * STEP, at_angle(float(rng.normal(0, 10))), resting=True))
        assert gate.decision.noise == gate.noise.level
        found += [(gate.noise.level, check) for check in gate.decision.checks if check.name == "speak_below_at_rest"]
    level, check = found[-1]
    assert check.bound < 0.99
    assert check.as_set == 0.995 and check.bound == pytest.approx(1 - 3 * (1 - level))


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.003, 0.02]), st.sampled_from([1, 2, 4]))
def test_rest_detector_and_scene_gate_do_what_their_numbers_say(seed: int, noise: float, held: int) -> None:
    rng, base = np.random.default_rng(seed), np.full((THUMBNAIL, THUMBNAIL), 0.5, np.float32)
    frames = []
    for _ in range(40):
        if rng.random() < 0.2:
            base = base.copy()
            base[rng.integers(24) :, rng.integers(24) :][:8, :8] = rng.random()
        frames += [picture(base + rng.normal(0, noise, base.shape).astype(np.float32))] * held
    detector, moved = RestDetector(bundle.RestSettings(), 4.0), []
    scene = SceneGate(bundle.SceneGateSettings(), detector.noise)
    for index, start in enumerate(range(0, len(frames) - 8 + 1, 2)):
        clip = frames[start : start + 8]
        resting, decision = detector.at_rest(clip), detector.decision(index)
        last = [check for check in decision.checks if check.name != "cells"]
        assert decision.verdict == {True: "resting", False: "moving"}[bool(resting)]
        assert resting == all(map(holds, last)), "each of them is asked until one does not hold"
        moved += [check for check in decision.checks if check.name == "cells"]
        changed = scene.changed(clip)
        found = scene.decision(index)
        assert (found.verdict == "encoded") == changed == (found.cause == "first" or any(map(holds, found.checks)))
        assert len({check.name for check in found.checks}) == len(found.checks) <= 2
    pairs = len({id(frame) for frame in frames[: start + 8]}) - 1
    assert len(moved) == pairs, "every two neighbouring frames are judged once"


def test_the_memory_says_what_it_compared() -> None:
    memory = CaptionMemory(bundle.CaptionMemorySettings(same=0.97, same_at_rest=0.5), SIZE)
    assert memory.recall(at_angle(0)) is None and memory.decision == Decision("memory", "decoded", cause="empty")
    memory.put(at_angle(0), "it moves", False)
    assert memory.recall(at_angle(20), False) is None
    assert memory.decision.verdict == "decoded"
    [check] = memory.decision.checks
    assert check == ("same", pytest.approx(np.cos(np.radians(20)), abs=1e-6), ">=", 0.97, 0.97) and not check.holds
    assert memory.recall(at_angle(1), False) == "it moves" and memory.decision.verdict == "recalled"
    for degrees in (90, 91, 92):
        memory.put(at_angle(degrees), "nothing moves", True)
    memory.put(at_angle(93), "it stands", True)
    assert memory.recall(at_angle(90), True) == "nothing moves"
    assert [(check.name, check.value, check.bound) for check in memory.decision.checks[1:]] == [
        ("agreeing", 3, 3),
        ("rival", 1, 3),
    ]
    nothing = CaptionMemory(bundle.CaptionMemorySettings(enabled=False), SIZE)
    assert nothing.recall(at_angle(0)) is None and nothing.decision.cause == "off"


def test_gates_that_are_off_say_so() -> None:
    detector = RestDetector(bundle.RestSettings(enabled=False), 4.0)
    assert detector.at_rest([picture(0.5)] * 8) is None
    assert detector.decision(0) == Decision("rest", "unknown", cause="off", window=0)
    scene = SceneGate(bundle.SceneGateSettings(enabled=False), PictureNoise(THUMBNAIL))
    assert scene.changed([picture(0.5)] * 8) and scene.decision(0) == Decision(
        "scene", "encoded", cause="off", window=0
    )
    gate = MeaningGate(bundle.MeaningGateSettings(enabled=False))
    gate.offer(window_at(0.0, at_angle(0)))
    assert (gate.decision.verdict, gate.decision.cause) == ("text", "off")


def test_a_watched_run_reports_every_decision_and_encodes_nothing_for_it(model: Model) -> None:
    reports: list[WindowReport] = []
    texts: list[TextReport] = []
    alone = model.narrate(Colours(seconds=40))
    expected = list(alone)
    watched = model.narrate(Colours(seconds=40), watch=reports.append, watch_texts=texts.append)
    assert list(watched) == expected
    counted = [run.totals.as_dict() | {"wall_seconds": 0, "real_time_factor": 0} for run in (alone, watched)]
    assert counted[0] == counted[1]
    scenes = [each for report in reports for each in report.decisions if each.gate == "scene"]
    assert sum(each.verdict == "encoded" for each in scenes) == watched.totals.encoder_runs
    for report in reports:
        rest, meaning = report.decisions[:2]
        assert (rest.gate, meaning.gate) == ("rest", "meaning")
        assert rest.window == meaning.window == report.window.index
        assert (rest.verdict == "resting") == report.resting
        assert (meaning.verdict == "text") == report.spoke
    assert [text.text for text in texts if text.told] == [narration.text for narration in expected]
    assert sum(text.decision.verdict == "recalled" for text in texts) == watched.totals.memory_hits
    assert sum(text.decision.verdict == "decoded" for text in texts) == watched.totals.decoder_runs
