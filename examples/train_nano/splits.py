"""The split of episodes into training, validation and test, by seed, camera and task.

Seeds never overlap: each split, the streams and the demo have a block of seeds each.
"""

from __future__ import annotations

from dataclasses import dataclass

from tasks import TASKS, UNSEEN


@dataclass(frozen=True)
class Split:
    """`episodes` of each task, numbered from `first_seed`; their cameras take these zones in turn."""

    first_seed: int
    episodes: int
    zones: tuple[str, ...]
    unseen: bool  # whether its tasks are those held out from training


BLOCK = 1_000_000  # seeds of a split, at most
SPLITS = {
    "train": Split(0 * BLOCK, 200, ("training",), unseen=False),
    "val": Split(1 * BLOCK, 4, ("training", "between"), unseen=False),
    "test": Split(4 * BLOCK, 15, ("training", "between", "training", "between", "outside"), unseen=False),
    "test-unseen": Split(5 * BLOCK, 24, ("training", "between"), unseen=True),
}
DEMO_SEED = 2 * BLOCK
STREAM_SEED = {"val": 3 * BLOCK, "test": 6 * BLOCK}  # streams to calibrate on, and to test on
SEEDS_A_STREAM = 1000


@dataclass(frozen=True)
class Rollout:
    """One episode to render."""

    seed: int
    zone: str


def rollouts(split: str, count: int) -> dict[str, list[Rollout]]:
    """`count` episodes for each task of a split. A task has the same seeds whatever the count."""
    chosen = SPLITS[split]
    if len(TASKS) * count > BLOCK:
        raise ValueError(f"{count} episodes of {len(TASKS)} tasks do not fit a split's {BLOCK} seeds")
    return {
        task: [
            Rollout(chosen.first_seed + number * len(TASKS) + index, chosen.zones[number % len(chosen.zones)])
            for number in range(count)
        ]
        for index, task in enumerate(TASKS)
        if (task in UNSEEN) == chosen.unseen
    }
