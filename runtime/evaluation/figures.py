"""Ranks, shares and their intervals, from similarities. Nothing here knows of models or videos.

The rule for ties: what is exactly as near as the right one counts as nearer, so that a model that gives everything the
same embedding gets nothing right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

RESAMPLES = 1000
QUANTILES = (0.025, 0.975)

Scores = npt.NDArray[np.float32]  # [cases, candidates]
Right = npt.NDArray[np.bool_]  # of the same shape: which candidates are right
Ranks = npt.NDArray[np.int64]  # [cases], from 1


@dataclass(frozen=True)
class Measure:
    """A figure over cases.

    Attributes:
        low, high: its bootstrap interval of 95 %; None with fewer than two groups of cases.
        chance: what guessing gives; None where that is not told.
    """

    value: float
    low: float | None
    high: float | None
    cases: int
    chance: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the attributes, rounded."""
        return {name: round(each, 4) if type(each) is float else each for name, each in asdict(self).items()}


def ranks(scores: Scores, right: Right) -> Ranks:
    """Return the rank of the best right candidate of each case: 1 and the number of wrong ones that are as near.

    Each case has a right candidate.
    """
    best = np.where(right, scores, -np.inf).max(1, keepdims=True)
    return np.asarray(1 + ((scores >= best) & ~right).sum(1), np.int64)


def predicted(scores: Scores, true: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the nearest candidate of each case, int64 [cases]; with a tie, not the true one."""
    others = scores.copy()
    cases = np.arange(len(true))
    others[cases, true] = -np.inf
    nearest = others.argmax(1)
    return np.where(others[cases, nearest] >= scores[cases, true], nearest, true)


def share_within(found: Ranks, most: int, right: Right, groups: Sequence[object]) -> Measure:
    """Return the share of cases whose rank is at most `most`: top-k accuracy, or recall at k.

    Args:
        right: as for ranks(), to tell what guessing gives.
        groups: of the cases; cases of one group are resampled together.
    """
    return _measure((found <= most).astype(np.float64), groups, np.mean, chance_within(right, most))


def median_rank(found: Ranks, groups: Sequence[object]) -> Measure:
    """Return the median of ranks."""
    return _measure(found.astype(np.float64), groups, np.median, None)


def share(correct: Sequence[bool], chances: Sequence[float], groups: Sequence[object]) -> Measure:
    """Return the share of cases that are right; `chances` is what guessing gives in each."""
    return _measure(np.asarray(correct, np.float64), groups, np.mean, float(np.mean(chances)))


def chance_within(right: Right, most: int) -> float:
    """Return the probability that a random order has a right candidate among its first `most`."""
    candidates, wrong = right.shape[1], (~right).sum(1).astype(np.float64)
    missed = np.ones(len(right))
    for place in range(min(most, candidates)):
        missed *= np.maximum(wrong - place, 0) / (candidates - place)
    return float(1 - missed.mean())


def _measure(
    values: npt.NDArray[np.float64],
    groups: Sequence[object],
    statistic: Callable[[npt.NDArray[np.float64]], Any],
    chance: float | None,
) -> Measure:
    numbers: dict[object, int] = {}
    member = np.array([numbers.setdefault(group, len(numbers)) for group in groups])
    low = high = None
    if len(numbers) > 1:
        random, equal = np.random.default_rng(0), np.full(len(numbers), 1 / len(numbers))
        weights = random.multinomial(len(numbers), equal, RESAMPLES)
        drawn = [statistic(np.repeat(values, each[member])) for each in weights]
        low, high = map(float, np.quantile(drawn, QUANTILES))
    return Measure(float(statistic(values)), low, high, len(values), chance)
