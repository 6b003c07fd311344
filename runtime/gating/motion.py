"""The three gates, each of which skips the work behind it, and what the second one watches besides meaning: whether the
picture is at rest. The second asks the first: it has a window encoded only where its decision hangs on what that means.
Settings and their units are in vlj_edge.bundle."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import numpy as np
import numpy.typing as npt

from vlj_edge import bundle

from ..video.preprocess import SampledFrame


def at_rest(pictures: Sequence[SampledFrame], settings: bundle.RestSettings, frames_per_second: float) -> bool | None:
    """Does the picture stand still in the middle of this clip? None where nobody looks.

    It does when the middle lies in a stretch of at least `seconds`, or as much of that as the clip can show, in which
    no two neighbouring samples differ. One change that stands alone is a cut to another still picture, not movement.
    """
    if not settings.enabled or len(pictures) < 2:
        return None
    luminance = np.stack([picture.luminance for picture in pictures])
    cells = np.abs(np.diff(luminance, axis=0)) > settings.changed
    moved = cells.mean(axis=(1, 2)) >= settings.cells
    moved[1:-1] &= moved[:-2] | moved[2:]
    middle = len(moved) // 2
    stretch = _until_first(moved[middle::-1]) + _until_first(moved[middle:]) - 1
    return stretch >= min(ceil(settings.seconds * frames_per_second), len(moved))


def _until_first(flags: npt.NDArray[np.bool_]) -> int:
    return int(flags.argmax()) if flags.any() else len(flags)
