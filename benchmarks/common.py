"""Shared by the benchmarks: paths, timing in alternating rounds, and writing results."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results"
TRAIN_NANO = ROOT / "examples" / "train_nano"
sys.path.insert(0, str(TRAIN_NANO))
from provenance import add_to, provenance  # noqa: E402


def in_turn(
    rounds: int, *, clock: Callable[[], float] = time.perf_counter, **actions: Callable[[], Any]
) -> dict[str, list[float]]:
    """Return the seconds of each action in each round. Every other round runs them in reverse order.

    Args:
        clock: time.process_time on a machine that others use too.
    """
    for action in actions.values():
        action()  # warm-up: the first run allocates buffers and selects kernels
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for number in range(rounds):
        for name in list(actions)[:: 1 if number % 2 == 0 else -1]:
            started = clock()
            actions[name]()
            seconds[name].append(clock() - started)
    return seconds


def ratio(ours: list[float], theirs: list[float]) -> dict[str, float]:
    """Return the median of ours over the median of theirs, with a 95 % bootstrap interval over the rounds."""
    rng = np.random.default_rng(0)
    drawn = [np.median(rng.choice(np.array(values), (4000, len(values))), axis=1) for values in (ours, theirs)]
    low, high = np.percentile(drawn[0] / drawn[1], (2.5, 97.5))
    middle = float(np.median(ours) / np.median(theirs))
    return {"ratio": round(middle, 4), "low": round(float(low), 4), "high": round(float(high), 4)}


def milliseconds(seconds: list[float], count: int = 1) -> float:
    """Return the median in milliseconds, divided by the number of items that each measurement covers."""
    return round(float(np.median(seconds)) * 1e3 / count, 3)


def write(name: str, found: dict[str, Any], command: str) -> None:
    """Merge findings, and where they come from, into results/NAME."""
    add_to(RESULTS / name, provenance(command) | found)
