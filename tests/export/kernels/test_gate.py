"""The gate kernel's own source on the processor, against float64 and the runtime's own gate."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.export.kernels import host
from vlj_edge import bundle
from vlj_edge.cuda import kernels
from vlj_edge.errors import VljEdgeError
from vlj_edge.runtime.gating.meaning import Encoded, MeaningGate, Offered


class Card:
    """What the kernel keeps between windows."""

    def __init__(self, size: int, slots: int, limits: tuple[float, float, float, float]) -> None:
        self.size, self.slots = size, slots
        self.limits = np.array(limits, np.float32)
        self.said = np.full(size, np.nan, np.float32)  # nobody has said anything: nothing may depend on it
        self.ring = np.full((slots, size), np.nan, np.float32)
        self.state = np.zeros(2, np.int32)
        self.smoothed = np.full(size, np.nan, np.float32)
        self.word = np.zeros(1, np.uint32)

    def step(self, embedding: np.ndarray, smoothing: int, calm_windows: int, seed: int = 0) -> kernels.GateWord:
        launch = kernels.gate_step(self.size, self.slots, smoothing, calm_windows)
        arguments = [embedding, self.said, self.limits, *launch.integers]
        arguments += [self.ring, self.state, self.smoothed, self.word]
        host.start(launch.name, launch.grid, launch.threads, arguments, seed=seed)
        return kernels.read_word(int(self.word[0]))

    def say(self) -> None:
        launch = kernels.gate_say(self.size)
        host.start(launch.name, launch.grid, launch.threads, [self.smoothed, *launch.integers, self.said, self.state])


def stream(rng: np.random.Generator, windows: int, size: int, step: float) -> np.ndarray:
    walk = np.cumsum(rng.standard_normal((windows, size)) * step, axis=0) + rng.standard_normal(size)
    return (walk / np.linalg.norm(walk, axis=1, keepdims=True)).astype(np.float32)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    size=st.sampled_from((1, 7, 255, 256, 384, 1536)),
    smoothing=st.integers(1, 5),
    calm_windows=st.integers(1, 6),
    spare=st.integers(0, 3),
    step=st.sampled_from((0.0, 0.05, 0.5)),
    says=st.lists(st.booleans(), min_size=12, max_size=12),
    seed=st.integers(0, 2**16),
)
def test_every_window_against_float64(
    size: int, smoothing: int, calm_windows: int, spare: int, step: float, says: list[bool], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    limits = (0.9, 0.8, 0.95, 0.05)
    card = Card(size, max(smoothing, calm_windows) + spare, limits)
    embeddings = stream(rng, len(says), size, step)
    said: np.ndarray | None = None
    for window, say in enumerate(says):
        word = card.step(embeddings[window], smoothing, calm_windows, seed)
        recent = embeddings[: window + 1].astype(np.float64)
        mean = recent[-smoothing:].mean(axis=0)
        smoothed = mean / max(np.linalg.norm(mean), 1e-6) if len(recent[-smoothing:]) > 1 else mean
        np.testing.assert_allclose(card.smoothed, smoothed, atol=2e-6)
        assert word.finite and word.compared == (said is not None)
        if said is not None:
            cosine = float(smoothed @ said)
            assert word.cosine == pytest.approx(cosine, abs=2e-6)
            for flag, limit in ((word.below, limits[0]), (word.below_at_rest, limits[1]), (not word.above, limits[2])):
                assert abs(cosine - limit) < 1e-5 or flag == (cosine < limit)
        calm = recent[-calm_windows:].mean(axis=0)
        variance = 1 - calm @ calm
        if len(recent) < calm_windows or calm_windows == 1:
            assert word.calm == (calm_windows == 1)
        else:
            assert abs(variance - limits[3]) < 1e-5 or word.calm == (variance <= limits[3])
        if say:
            card.say()
            said = card.smoothed.astype(np.float64).copy()


def test_it_finds_what_the_runtimes_gate_finds() -> None:
    """The same smoothing, the same calm: MeaningGate's own code on the host beside the kernel."""
    rng = np.random.default_rng(5)
    embeddings = stream(rng, 30, 384, 0.02)
    defaults = bundle.MeaningGateSettings(smoothing=3, calm_windows=4, calm_variance=0.002)
    gate = MeaningGate(defaults)
    card = Card(384, 4, (0.9, 0.8, 0.95, defaults.calm_variance))
    for window, embedding in enumerate(embeddings):
        encode = lambda e=embedding: Encoded(e)  # noqa: E731
        gate._times.append(float(window))
        gate._recent.append(encode)
        offered = Offered(gate._times, list(gate._recent)[-3:], None)
        word = card.step(embedding, 3, 4)
        np.testing.assert_allclose(card.smoothed, offered.encoded.embedding, atol=1e-6)
        assert word.calm == gate._calm()


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_said(wrong: float) -> None:
    card = Card(384, 4, (0.9, 0.8, 0.95, 0.05))
    embedding = stream(np.random.default_rng(0), 1, 384, 0.1)[0]
    embedding[200] = wrong
    assert not card.step(embedding, 1, 1).finite


def test_a_ring_too_short_is_refused() -> None:
    with pytest.raises(VljEdgeError, match="make it longer"):
        kernels.gate_step(384, 3, 4, 1)
