"""Gates that nothing was calibrated for, in streams whose embeddings lie in a narrow cone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.runtime.gating.windows import STEP, offer, unit
from vlj_edge import bundle
from vlj_edge.results import Window
from vlj_edge.runtime.gating.answer_memory import AnswerMemory
from vlj_edge.runtime.gating.caption_memory import CaptionMemory
from vlj_edge.runtime.gating.clip_window import ClipWindow, Encoded
from vlj_edge.runtime.gating.embedding_spread import EmbeddingSpread
from vlj_edge.runtime.gating.meaning import MeaningGate

SETTINGS = replace(bundle.MeaningGateSettings(), relative=True)
BOUND = SETTINGS.longest_wait + SETTINGS.least_hold + 2 * STEP  # s, from a change to its text
LEARNING = 10.0  # s, until it is known what a change looks like
COSINES = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98)


class Cone:
    """Scenes at a cosine to one another, by a common mean vector, with noise within each.

    Args:
        noise: 1 - cosine of two windows of a scene, in units of that of two scenes.
    """

    def __init__(self, seed: int, size: int, cosine: float, noise: float) -> None:
        self.rng, self._size, self._cosine = np.random.default_rng(seed), size, cosine
        self._noise = noise * (1 - cosine)
        self._axis = unit(self.rng.normal(size=size))

    def scene(self) -> np.ndarray:
        own = self.rng.normal(size=self._size)
        own = unit(own - (own @ self._axis) * self._axis)
        return unit(np.sqrt(self._cosine) * self._axis + np.sqrt(1 - self._cosine) * own)

    def window(self, scene: np.ndarray) -> np.ndarray:
        noise = unit(self.rng.normal(size=self._size))
        return unit(np.sqrt(1 - self._noise) * scene + np.sqrt(self._noise) * noise)


def said(gate: MeaningGate, cone: Cone, lengths: Sequence[float], resting: bool | None, at: int = 0) -> list[list[int]]:
    """The texts of each scene: the windows since its beginning. Lengths are seconds, `at` is the first window."""
    found: list[list[int]] = []
    for length in lengths:
        scene, begun = cone.scene(), at
        found.append([])
        for at in range(begun, begun + round(length / STEP)):
            if offer(gate, at * STEP, cone.window(scene), resting) is not None:
                found[-1].append(at - begun)
        at += 1
    return found


def in_time(texts: Sequence[Sequence[int]]) -> float:
    """The share of scenes that get a text within the bound."""
    return sum(bool(each) and each[0] * STEP <= BOUND for each in texts) / len(texts)


@pytest.mark.parametrize("cosine", COSINES)
@pytest.mark.parametrize(("size", "noise", "resting"), [(256, 0.15, None), (768, 0.05, False), (1536, 0.0, True)])
def test_scenes_in_a_cone_are_said_in_time_and_once(
    cosine: float, size: int, noise: float, resting: bool | None
) -> None:
    for seed in (1, 2):
        cone = Cone(seed, size, cosine, noise)
        texts = said(MeaningGate(SETTINGS), cone, cone.rng.uniform(4.5, 9, 30), resting)
        assert in_time(texts) >= 0.9, texts
        assert sum(map(len, texts)) <= 33, "texts stop while a scene lasts"


@settings(deadline=None, max_examples=25)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(COSINES),
    st.sampled_from([256, 384, 1024]),
    st.sampled_from([0.0, 0.05, 0.15]),
    st.sampled_from([True, False, None]),
)
def test_a_scene_that_lasts_is_said_in_time_and_then_texts_stop(
    seed: int, cosine: float, size: int, noise: float, resting: bool | None
) -> None:
    cone, gate = Cone(seed, size, cosine, noise), MeaningGate(SETTINGS)
    before = cone.rng.uniform(3, 12, 8)
    said(gate, cone, before, resting)
    [texts] = said(gate, cone, [60.0], resting, round(sum(np.round(before / STEP))))
    assert texts and texts[0] * STEP <= BOUND and len(texts) <= 2


@pytest.mark.parametrize("cosine", COSINES)
@pytest.mark.parametrize("resting", [True, False, None])
def test_one_scene_with_noise_gets_one_text_and_the_next_scene_its_own(cosine: float, resting: bool | None) -> None:
    cone, gate = Cone(3, 512, cosine, 0.2), MeaningGate(SETTINGS)
    [alone] = said(gate, cone, [600.0], resting)
    assert len(alone) <= 2 and alone[-1] * STEP <= LEARNING
    assert in_time(said(gate, cone, [8.0, 8.0], resting, round(600 / STEP))) == 1


@pytest.mark.parametrize("cosine", [0.8, 0.98])
def test_after_a_day_it_is_as_in_the_first_hour(cosine: float) -> None:
    cone, gate = Cone(4, 256, cosine, 0.1), MeaningGate(SETTINGS)
    first = said(gate, cone, [6.0] * 60, None)
    day = 24 * round(3600 / STEP)
    scene = cone.scene()
    for at in range(12 * 60, 12 * 60 + 600):  # a long pause, of which the gate sees ten minutes
        offer(gate, at * STEP, cone.window(scene), None)
    last = said(gate, cone, [6.0] * 60, None, day)
    assert in_time(first) >= 0.95 and in_time(last) >= 0.95
    assert sum(map(len, last)) <= 1.05 * sum(map(len, first))


def test_what_lies_far_outside_of_the_cone_does_not_make_it_deaf() -> None:
    cone, gate = Cone(5, 512, 0.95, 0.1), MeaningGate(SETTINGS)
    said(gate, cone, [6.0] * 5, None)
    dark = unit(cone.rng.normal(size=512))  # somebody covers the lens
    for at in range(60, 120):
        offer(gate, at * STEP, cone.window(dark), None)
    texts = said(gate, cone, [8.0] * 8, None, 120)
    assert in_time(texts[3:]) == 1 and in_time(texts) >= 0.75


def windows_of(frames: Sequence[np.ndarray]) -> list[ClipWindow]:
    """Windows of two seconds, one a second, at two frames a second: the mean of unit embeddings, as image models do."""
    found = []
    for index, start in enumerate(range(0, len(frames) - 3, 2)):
        embedding = unit(np.mean(frames[start : start + 4], axis=0))
        times = Window(index, start / 2, start / 2 + 2)
        found.append(ClipWindow(times, [], None, lambda _, embedding=embedding: Encoded(embedding)))
    return found


@pytest.mark.parametrize("cosine", COSINES)
def test_windows_that_show_two_scenes_are_no_noise(cosine: float) -> None:
    cone, gate = Cone(6, 512, cosine, 0.2), MeaningGate(SETTINGS)
    frames = [cone.window(scene) for scene in [cone.scene() for _ in range(30)] for _ in range(12)]
    times = [window.times.start for window in windows_of(frames) if gate.offer(window) is not None]
    assert len({int((time + 1) // 6) for time in times}) >= 28 and len(times) <= 36


@pytest.mark.parametrize("cosine", [0.0, 0.8, 0.95])
def test_a_scene_that_wavers_slowly_is_not_said_all_the_time(cosine: float) -> None:
    cone, gate = Cone(7, 512, cosine, 0.0), MeaningGate(SETTINGS)
    scene, state, frames = cone.scene(), np.zeros(512), []
    for _ in range(2 * 900):
        state = 0.9 * state + 0.44 * cone.rng.normal(size=512)
        frames.append(unit(scene + np.sqrt(0.1 * (1 - cosine) / 512) * state))
    assert sum(gate.offer(window) is not None for window in windows_of(frames)) <= 8, "in 15 minutes"


@pytest.mark.parametrize("cosine", COSINES)
def test_calibrated_gates_take_cosines_as_they_are(cosine: float) -> None:
    calibrated = replace(SETTINGS, relative=False)
    cone, gate = Cone(8, 256, cosine, 0.05), MeaningGate(calibrated)
    texts = said(gate, cone, [6.0] * 20, None)
    assert in_time(texts) >= 0.95 if cosine <= 0.8 else sum(map(len, texts)) == 1
    assert gate.noise.spread.moments is None and gate.decision.unrelated is None


def test_thresholds_stay_in_their_order_and_say_what_they_follow() -> None:
    cone, gate = Cone(9, 256, 0.9, 0.05), MeaningGate(SETTINGS)
    said(gate, cone, [6.0] * 10, None)
    spread = gate.noise.spread
    assert spread.unrelated == pytest.approx(0.9, abs=0.01) == gate.decision.unrelated
    raised = [spread.raised(cosine, SETTINGS) for cosine in (-1.0, 0.2, 0.85, 0.92, 0.99, 1.0)]
    assert raised == sorted(raised) and raised[0] == -1 and raised[-1] == 1
    assert 0.9 < raised[2] < raised[3] < 0.995
    check = next(each for each in gate.decision.checks if each.name == "speak_below")
    assert check.as_set == 0.85 and check.bound == pytest.approx(spread.raised(0.85, SETTINGS), abs=0.01)


def test_a_restart_goes_on_with_what_was_learned() -> None:
    cone, gate = Cone(10, 256, 0.95, 0.1), MeaningGate(SETTINGS)
    said(gate, cone, [6.0] * 10, None)
    learned = gate.noise.spread
    [_, [first, *_]] = said(MeaningGate(SETTINGS), Cone(11, 256, 0.95, 0.1), [2.0, 4.0], None)
    assert first > 2, "nothing is known yet"
    again = MeaningGate(SETTINGS)
    again.noise.spread.restore(learned.neighbours, learned.moments)
    assert again.noise.spread.noise == learned.noise and again.noise.spread.moments == learned.moments
    [_, [first, *_]] = said(again, Cone(11, 256, 0.95, 0.1), [2.0, 4.0], None)
    assert first <= 1


def test_the_same_window_counts_once_and_pairs_that_share_frames_are_one_scene() -> None:
    rng, spread = np.random.default_rng(12), EmbeddingSpread()
    looks = [unit(rng.normal(size=64)) for _ in range(12)]
    for index, look in enumerate(looks):
        for _ in range(2):
            spread.learn(float(index), index + 2.0, look)
    assert len(spread.neighbours) == 11 and spread.moments is not None
    far = [1 - float(looks[i] @ looks[j]) for i in range(12) for j in range(i + 2, 12)]
    assert spread.moments.apart == pytest.approx(float(np.median(far)), abs=1e-6)
    assert spread.moments.between_scenes == 0, "nothing in this stream is like anything else in it"


def test_the_memory_takes_no_scene_of_a_cone_for_another() -> None:
    cone = Cone(13, 256, 0.98, 0.0)
    first, second = cone.scene(), cone.scene()
    for memory in (CaptionMemory(bundle.CaptionMemorySettings(), 256), answers()):
        for resting in (False, True):
            for _ in range(3):
                memory.put(first, "a kitchen", resting)
            assert memory.recall(second, resting) == "a kitchen", "a cosine of 0.98 is the same without a cone"
            assert memory.recall(second, resting, apart=0.02) is None
            assert memory.recall(first, resting, apart=0.02) == "a kitchen"
            assert memory.recall(second, resting, apart=0.0) is None, "nothing is known yet"


def answers() -> AnswerMemory:
    known: Any = SimpleNamespace(said=False, manifest=SimpleNamespace(embedding=256))
    return AnswerMemory(bundle.CaptionMemorySettings(), known)
