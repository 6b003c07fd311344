"""Means with a 95 % bootstrap interval and the number of cases."""

from __future__ import annotations

from typing import Any

import numpy as np

RESAMPLES = 1000
QUANTILES = (0.025, 0.975)


def interval(values: np.ndarray, group: np.ndarray | None = None) -> dict[str, Any]:
    """Return the mean of `values` (n,) with its interval. Groups (correlated cases) are resampled whole."""
    if not len(values):
        return {"value": None, "cases": 0, "groups": 0}
    _, member = np.unique(np.arange(len(values)) if group is None else group, return_inverse=True)
    sums, sizes = np.bincount(member, np.asarray(values, float)), np.bincount(member)
    draws = resample(len(sizes))
    low, high = np.quantile(sums[draws].sum(1) / sizes[draws].sum(1), QUANTILES)
    figures = {"value": np.mean(values), "low": low, "high": high}
    return {key: round(float(v), 4) for key, v in figures.items()} | {"cases": len(values), "groups": len(sizes)}


def resample(count: int) -> np.ndarray:
    """Return the indices (RESAMPLES, count) of the resamples; the same for the same count."""
    return np.random.default_rng(0).integers(0, count, (RESAMPLES, count))
