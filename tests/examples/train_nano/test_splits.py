"""Test and training data do not overlap: seeds, cameras, tasks and words."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from cameras import AZIMUTH_RANGE, BANDS, ZONES, random_camera, zone_of
from questions import answer_meanings
from splits import DEMO_SEED, SEEDS_A_STREAM, SPLITS, STREAM_SEED, rollouts
from tasks import TASKS, UNSEEN, meanings, trained_tasks

MOST_STREAMS = 100


def seeds(split: str) -> set[int]:
    planned = rollouts(split, SPLITS[split].episodes).values()
    return {rollout.seed for block in planned for rollout in block}


def test_no_seed_is_in_two_splits() -> None:
    every = {name: seeds(name) for name in SPLITS}
    every["demo"] = set(range(DEMO_SEED, DEMO_SEED + SEEDS_A_STREAM))
    for name, first in STREAM_SEED.items():
        every[f"streams {name}"] = set(range(first, first + MOST_STREAMS * SEEDS_A_STREAM))
    for (one, a), (other, b) in itertools.combinations(every.items(), 2):
        assert not a & b, f"{one} and {other} share layouts"
    for name, split in SPLITS.items():
        tasks = len(UNSEEN) if split.unseen else len(TASKS) - len(UNSEEN)
        assert len(every[name]) == tasks * split.episodes, "a seed is drawn twice"


def test_unseen_tasks_are_in_no_trained_split_and_in_no_trained_text() -> None:
    assert len(UNSEEN) >= 6 and TASKS.keys() >= UNSEEN
    for name in ("train", "val", "test"):
        assert not UNSEEN & rollouts(name, 1).keys()
    assert rollouts("test-unseen", 1).keys() == UNSEEN
    trained = {text for group in (*meanings(), *answer_meanings()) for text in group}
    for task in UNSEEN:
        assert not trained.intersection(TASKS[task].captions), f"the words of {task} are trained on"
    assert set(trained_tasks()) == TASKS.keys() - UNSEEN


def test_training_cameras_leave_the_bands_and_the_outside_alone() -> None:
    assert SPLITS["train"].zones == ("training",)
    assert {"between", "outside"} <= set(SPLITS["test"].zones)
    rng = np.random.default_rng(0)
    for zone in ZONES:
        for _ in range(200):
            azimuth = random_camera(rng, zone).azimuth
            inside = AZIMUTH_RANGE[0] <= azimuth <= AZIMUTH_RANGE[1]
            in_band = any(low <= azimuth <= high for low, high in BANDS)
            assert (inside, in_band) == {"training": (True, False), "between": (True, True)}.get(zone, (False, False))
            assert zone_of(azimuth) == zone


def test_a_split_that_outgrows_its_seeds_is_refused() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        rollouts("train", 20_001)
