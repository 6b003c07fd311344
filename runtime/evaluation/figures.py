"""Ranks, shares and their intervals, from similarities. Nothing here knows of models or videos.

The rule for ties: what is exactly as near as the right one counts as nearer, so that a model that gives everything the
same embedding gets nothing right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

RESAMPLES = 1000
QUANTILES = (0.025, 0.975)

Scores = npt.NDArray[np.float32]  # [cases, candidates]
Right = npt.NDArray[np.bool_]  # of the same shape: which candidates are right
Ranks = npt.NDArray[np.int64]  # [cases], from 1
Values = npt.NDArray[np.float64]  # [cases]


@dataclass(frozen=True)
class Measure:
    """A figure over cases.

    Attributes:
        low, high: its bootstrap interval of 95 %; None with fewer than two groups of cases.
        chance: what guessing gives; None where that is not told.
        drawn: the figure in each resample, of which the interval is made. Of the same groups of cases they are the same
            resamples, so that figures of two models can be compared in pairs.
    """

    value: float
    low: float | None
    high: float | None
    cases: int
    chance: float | None = None
    drawn: Values = field(default_factory=lambda: np.empty(0), repr=False, compare=False)

    def as_dict(self) -> dict[str, Any]:
        """Return the attributes but `drawn`, rounded."""
        values = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "drawn"}
        return {name: round(each, 4) if type(each) is float else each for name, each in values.items()}


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
    return mean((found <= most).astype(np.float64), groups, chance_within(right, most))


def median_rank(found: Ranks, groups: Sequence[object]) -> Measure:
    """Return the median of ranks."""
    member = _members(groups)
    drawn = np.array([np.median(np.repeat(found, each[member])) for each in _weights(member)], np.float64)
    return Measure(float(np.median(found)), *_interval(drawn), len(found), drawn=drawn)


def share(correct: Sequence[bool], chances: Sequence[float], groups: Sequence[object]) -> Measure:
    """Return the share of cases that are right; `chances` is what guessing gives in each."""
    return mean(np.asarray(correct, np.float64), groups, float(np.mean(chances)))


def mean(values: Values, groups: Sequence[object], chance: float | None = None) -> Measure:
    """Return the mean over cases, float64 [cases], at least one."""
    return replace(ratio(values, np.ones(len(values)), groups), chance=chance)


def ratio(values: Values, by: Values, groups: Sequence[object]) -> Measure:
    """Return the sum of `values` over that of `by`, both float64 [cases], which are resampled together. The sum of
    `by` is not 0; resamples in which it is are left out of the interval.
    """
    member = _members(groups)
    ours, theirs = np.bincount(member, values), np.bincount(member, by)
    weights = _weights(member)
    above, below = weights @ ours, weights @ theirs
    drawn = above[below != 0] / below[below != 0]
    return Measure(float(values.sum() / by.sum()), *_interval(drawn), len(values), drawn=drawn)


def difference(one: Measure, other: Measure) -> Measure | None:
    """Return how much higher a figure is than another model's over the same cases, with its interval in pairs; None if
    they have no interval, or not the same cases."""
    if one.cases != other.cases or not len(one.drawn) or len(one.drawn) != len(other.drawn):
        return None
    drawn = one.drawn - other.drawn
    return Measure(one.value - other.value, *_interval(drawn), one.cases, drawn=drawn)


def chance_within(right: Right, most: int) -> float:
    """Return the probability that a random order has a right candidate among its first `most`."""
    candidates, wrong = right.shape[1], (~right).sum(1).astype(np.float64)
    missed = np.ones(len(right))
    for place in range(min(most, candidates)):
        missed *= np.maximum(wrong - place, 0) / (candidates - place)
    return float(1 - missed.mean())


def _members(groups: Sequence[object]) -> Ranks:
    """Return the number of the group of each case, from 0."""
    numbers: dict[object, int] = {}
    return np.array([numbers.setdefault(group, len(numbers)) for group in groups], np.int64)


def _weights(member: Ranks) -> Ranks:
    """Return how often each resample has each group, int64 [resamples, groups]; none with fewer than two groups."""
    count = int(member.max(initial=0)) + 1
    return np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), RESAMPLES if count > 1 else 0)


def _interval(drawn: Values) -> tuple[float | None, float | None]:
    if not len(drawn):
        return None, None
    low, high = np.quantile(drawn, QUANTILES)
    return float(low), float(high)
