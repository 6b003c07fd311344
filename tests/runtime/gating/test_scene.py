"""The scene gate: when a clip must be encoded again."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.runtime.gating.windows import picture, with_dot
from vlj_edge import bundle
from vlj_edge.runtime.gating.picture_noise import PictureNoise, smoothed
from vlj_edge.runtime.gating.scene import SceneGate
from vlj_edge.runtime.video.preprocess import THUMBNAIL


def gate_of(settings: bundle.SceneGateSettings) -> SceneGate:
    return SceneGate(settings, PictureNoise(THUMBNAIL))


def test_first_clip_is_encoded_and_an_equal_one_is_not() -> None:
    gate = gate_of(bundle.SceneGateSettings())
    assert gate.changed([picture(0)] * 4)
    assert not gate.changed([picture(0)] * 4)


def test_slow_drift_is_seen() -> None:
    # from clip to clip it stays far below the threshold, so that a gate that compares neighbours sleeps for ever
    settings = bundle.SceneGateSettings(changed=0.06)
    gate = gate_of(settings)
    encoded = [step for step in range(100) if gate.changed([picture(0.1 + 0.0048 * step)] * 4)]
    # every 13 steps: 0.0624 is the first that is above 0.06
    assert encoded == list(range(0, 100, 13))


def test_still_clip_after_movement_is_not_taken_for_the_moving_one() -> None:
    gate = gate_of(bundle.SceneGateSettings())
    moving = [with_dot(column) for column in (0, 4, 8, 12)]
    assert gate.changed(moving)
    assert gate.changed([moving[-1]] * 4)  # same newest frame, but it has stopped
    assert not gate.changed([moving[-1]] * 4)


def test_movement_after_a_still_clip_is_seen_even_if_it_returns() -> None:
    gate = gate_of(bundle.SceneGateSettings())
    still = [with_dot(4)] * 4
    assert gate.changed(still)
    assert gate.changed([with_dot(4), with_dot(12), with_dot(12), with_dot(4)])  # same first and last frame


def test_movement_that_goes_on_is_encoded_every_time() -> None:
    gate = gate_of(bundle.SceneGateSettings())
    track = [with_dot(column % 24) for column in range(0, 96, 3)]
    assert all(gate.changed(track[start : start + 4]) for start in range(0, len(track) - 4, 2))


@given(st.integers(0, 40))
def test_number_of_changed_cells_decides(count: int) -> None:
    settings = bundle.SceneGateSettings(changed=0.1, cells=20 / THUMBNAIL**2)
    gate = gate_of(settings)
    gate.changed([picture(0.2)] * 2)
    cells = np.full((8, THUMBNAIL**2 // 8), 0.2, np.float32)  # bands of four rows: smoothing reaches one row further
    cells[4, :count] = 0.4
    changed = cells.reshape(THUMBNAIL, THUMBNAIL)
    wanted = np.count_nonzero(np.abs(smoothed(changed) - 0.2) > 0.1) >= 20
    assert gate.changed([picture(0.2), picture(changed)]) == wanted


def test_disabled_scene_gate_encodes_everything() -> None:
    gate = gate_of(bundle.SceneGateSettings(enabled=False))
    assert all(gate.changed([picture(0)] * 2) for _ in range(5))


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=40))
def test_a_clip_is_skipped_exactly_when_it_equals_the_last_encoded_one(levels: list[float]) -> None:
    settings = bundle.SceneGateSettings(changed=0.06)
    gate = gate_of(settings)
    encoded: float | None = None
    for level in levels:
        wanted = encoded is None or abs(np.float32(level) - np.float32(encoded)) > 0.06
        assert gate.changed([picture(level)]) == wanted
        encoded = level if wanted else encoded
