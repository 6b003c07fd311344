"""Comparing the names and shapes of a checkpoint's tensors with those that a module needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from .files import State

Shapes: TypeAlias = Mapping[str, tuple[int, ...]]


def shapes(state: State) -> Shapes:
    """Return the shape of each tensor."""
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def describe_differences(expected: Shapes, found: Shapes) -> str:
    """Return "missing: a, b; unexpected: c; wrong shape: d (2,) instead of (3,)", or "" where nothing differs."""
    wrong_shape = [
        f"{name} {found[name]} instead of {shape}"
        for name, shape in expected.items()
        if name in found and found[name] != shape
    ]
    differences = {
        "missing": sorted(expected.keys() - found.keys()),
        "unexpected": sorted(found.keys() - expected.keys()),
        "wrong shape": wrong_shape,
    }
    return "; ".join(f"{kind}: {join_first(names)}" for kind, names in differences.items() if names)


def join_first(names: list[str], limit: int = 4) -> str:
    """Return the first `limit` names and the number of the others: "a, b, c, d and 3 more"."""
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")
