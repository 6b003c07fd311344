"""Whether something begins to move, or comes to rest, in one part of a picture while something moves in another."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]

_AROUND = 3  # differences before and after one that a movement must be missing from
_REACH = 5  # cells that a movement may have come from, in that time
_LARGEST = 0.5  # share of the picture: where more of it moves, it has no parts
_OFTEN, _LATELY = 4, 30.0  # turns of parts, and seconds in which so many show that several things move at a time


class TurnsOfParts:
    """When things began or stopped moving while something else went on.

    Attributes:
        since: the time (s) of the latest turn that no look followed; None without one.
    """

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=_OFTEN)
        self.since: float | None = None

    def note(self, now: float) -> None:
        """Take the time (s) of a turn."""
        self._times.append(now)
        self.since = now

    def looked(self) -> None:
        """Note that the picture is looked at."""
        self.since = None

    def often(self, now: float) -> bool:
        """Return whether they are frequent. Then little comes to rest as a whole, and few turns of the picture say when
        something new begins."""
        return len(self._times) == _OFTEN and now - self._times[0] <= _LATELY


def turned_in_part(moved: Sequence[Mask], cells: int) -> bool:
    """Return whether, in the middle, something begins or stops moving while something else goes on.

    What moves on its way is never far from where it was just before; what begins to move is.

    Args:
        moved: bool [side, side] for every two neighbouring pictures, the cells that differ.
        cells: that count as something.
    """
    middle = len(moved) // 2
    return any(
        _appears(moved[at], moved[at - _AROUND : at], cells)
        or _appears(moved[at], moved[at + 1 : at + 1 + _AROUND], cells)
        for at in (middle - 1, middle)
        if _AROUND <= at < len(moved) - _AROUND
    )


def _appears(now: Mask, others: Sequence[Mask], cells: int) -> bool:
    """Return whether something moves that has nothing near it in the other differences, while those have something."""
    other = np.any(others, axis=0)
    if now.mean() > _LARGEST or other.sum() < cells:
        return False
    return int((now & ~_widened(other)).sum()) >= cells


def _widened(mask: Mask) -> Mask:
    """Return the cells that have one of these within reach, along rows and columns."""
    side = len(mask)
    first, last = np.maximum(np.arange(side) - _REACH, 0), np.minimum(np.arange(side) + _REACH + 1, side)
    for _ in range(2):  # along columns, then transposed along rows
        count = np.zeros((side + 1, side), np.int16)
        np.cumsum(mask, axis=0, out=count[1:])
        mask = (count[last] > count[first]).T
    return mask
