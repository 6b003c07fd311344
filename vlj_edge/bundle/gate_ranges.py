"""The ranges of the gates' settings: one table for manifests, configurations, saved settings, the page and Python."""

from __future__ import annotations

from dataclasses import fields, is_dataclass

from ..errors import VljEdgeError
from ..schema import Range, shown
from .gate_settings import GateSettings

_RANGES = {
    "capacity": Range(0, 65_536),  # texts, of whose embeddings each takes some kilobytes
    "smoothing": Range(1, 1000),  # windows that are kept
    "calm_windows": Range(1, 1000),
    "seconds": Range(0, 1e6),
    "texts_per_hour": Range(0, 1e6),
    "encodes_per_minute": Range(0, 1e6),
}
_COSINES = ("speak_below", "speak_below_at_rest", "forget_above", "same_above", "same", "same_at_rest")
_COSINE, _OTHER = Range(-1, 1), Range(0, 1e9)  # shares, variances and times: none is negative


def limits_of(setting: str) -> Range:
    """Return the range of a setting that is a number, by its name."""
    return _RANGES.get(setting, _COSINE if setting in _COSINES else _OTHER)


def gates_problem(gates: GateSettings) -> str | None:
    """Return what is wrong with the first setting that is out of its range, such as "caption_memory.capacity is -1, not
    at least 0 and at most 65536"; None if none is."""
    for gate in fields(gates):
        settings = getattr(gates, gate.name)
        for each in fields(settings) if is_dataclass(settings) else ():
            value, limits = getattr(settings, each.name), limits_of(each.name)
            if isinstance(value, bool):
                continue
            if not isinstance(value, int | float) or value not in limits:  # nan is in no range
                return f"{gate.name}.{each.name} is {shown(value)}, not {limits}"
    return None


def check_gates(gates: GateSettings) -> None:
    """Check the ranges of settings that were made in Python.

    Raises:
        VljEdgeError: one is out of its range.
    """
    problem = gates_problem(gates)
    if problem is not None:
        raise VljEdgeError(f"{problem}: give another value")
