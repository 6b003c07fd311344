"""Arguments that are numbers."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

from vlj_edge.errors import VljEdgeError


def check_number(name: str, value: Any) -> None:
    """Raises VljEdgeError: the value is no number."""
    if not isinstance(value, Real) or isinstance(value, bool):
        raise VljEdgeError(f"{name} is a {type(value).__name__}: give a number")


def check_whole(name: str, value: Any) -> None:
    """Raises VljEdgeError: the value is no whole number."""
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise VljEdgeError(f"{name} is a {type(value).__name__}: give a whole number")
