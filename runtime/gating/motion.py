"""Whether the picture stands still in a clip: what happens usually begins where it moves and ends where it rests."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import numpy as np
import numpy.typing as npt

from vlj_edge import bundle

from ..video.preprocess import SampledFrame


def at_rest(frames: Sequence[SampledFrame], settings: bundle.RestSettings, frames_per_second: float) -> bool | None:
    """Return whether the picture stands still in the middle of a clip; None where that is not watched.

    It does when the middle lies in a stretch of at least `settings.seconds`, or as much of that as the clip can show,
    in which no two neighbouring samples differ. A single change that stands alone is a cut to another still picture.
    """
    if not settings.enabled or len(frames) < 2:
        return None
    luminance = np.stack([frame.luminance for frame in frames])
    cells = np.abs(np.diff(luminance, axis=0)) > settings.changed
    moved = cells.mean(axis=(1, 2)) >= settings.cells
    moved[1:-1] &= moved[:-2] | moved[2:]
    middle = len(moved) // 2
    stretch = _until_first(moved[middle::-1]) + _until_first(moved[middle:]) - 1
    return stretch >= min(ceil(settings.seconds * frames_per_second), len(moved))


def _until_first(flags: npt.NDArray[np.bool_]) -> int:
    return int(flags.argmax()) if flags.any() else len(flags)
