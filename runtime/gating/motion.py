"""Whether the picture is at rest in a clip: events usually begin where it moves and end where it comes to rest."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import ceil

import numpy as np
import numpy.typing as npt

from vlj_edge import bundle

from ..video.preprocess import SampledFrame


def at_rest(frames: Sequence[SampledFrame], settings: bundle.RestSettings, frames_per_second: float) -> bool | None:
    """Return whether the picture stands still in the middle of a clip; None if that is not detected.

    It is still if the middle lies in an interval of at least `settings.seconds` (or the clip's length, if that is
    shorter) in which no two neighbouring frames differ. A single isolated change is a cut to another still picture. A
    source that is slower than the clip has fewer frames than samples; while each frame differs from the one before, it
    is not at rest.

    Args:
        frames: one a sample; a frame that is sampled repeatedly is the same object.
    """
    if not settings.enabled or len(frames) < 2:
        return None
    number = np.cumsum([later is not earlier for earlier, later in pairwise(frames)])
    number = np.concatenate(([0], number))  # which of the distinct frames each sample shows
    if number[-1] == 0:
        return True
    moved = _moved(frames, number, settings)
    middle = len(moved) // 2
    before, after = _until_first(moved[middle::-1]), _until_first(moved[middle:])
    if min(before, after) == 0:
        return False
    several = number[middle - before + 1] < number[middle + after]  # one frame alone shows neither rest nor movement
    return bool(several) and before + after - 1 >= min(ceil(settings.seconds * frames_per_second), len(moved))


def _moved(
    frames: Sequence[SampledFrame], number: npt.NDArray[np.int_], settings: bundle.RestSettings
) -> npt.NDArray[np.bool_]:
    """Return for every two neighbouring samples whether the picture moves between them."""
    distinct = np.stack([frames[index].luminance for index in np.unique(number, return_index=True)[1]])
    moved = (np.abs(np.diff(distinct, axis=0)) > settings.changed).mean(axis=(1, 2)) >= settings.cells
    moved[1:-1] &= moved[:-2] | moved[2:]
    found = np.zeros(len(frames) - 1, np.bool_)
    found[np.flatnonzero(np.diff(number))] = moved
    return found


def _until_first(flags: npt.NDArray[np.bool_]) -> int:
    return int(flags.argmax()) if flags.any() else len(flags)
