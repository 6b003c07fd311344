"""The three gates, each of which skips the work behind it, and what the second one watches besides meaning: whether the
picture is at rest. The second asks the first: it has a window encoded only where its decision hangs on what that means.
Settings and their units are in vlj_edge.bundle."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vlj_edge import bundle

from ..video.preprocess import THUMBNAIL, SampledFrame


class SceneGate:
    """Has the picture changed since the clip that was last encoded?

    Two clips are the same when their frames look the same one by one, sample against sample. That is what the encoder
    gets, so nothing else can make its output the same: a still clip after one with movement in it differs from it in
    the frames that moved, and two still clips differ when their pictures do. The comparison is with the clip that was
    last ENCODED, or a scene that changes a little from clip to clip would never be seen to change.
    """

    def __init__(self, settings: bundle.SceneGateSettings, frames: int) -> None:
        self._settings = settings
        self._encoded = np.empty((frames, THUMBNAIL, THUMBNAIL), np.float32)
        self._now = np.empty_like(self._encoded)
        self._difference = np.empty_like(self._encoded)
        self._first = True

    def changed(self, pictures: Sequence[SampledFrame]) -> bool:
        """Must this clip be encoded? When the answer is yes, it is what later clips are compared with."""
        for cells, picture in zip(self._now, pictures, strict=True):
            cells[...] = picture.luminance
        if self._settings.enabled and not self._first and not self._differs():
            return False
        self._first = False
        self._encoded, self._now = self._now, self._encoded
        return True

    def _differs(self) -> bool:
        np.subtract(self._now, self._encoded, out=self._difference)
        np.abs(self._difference, out=self._difference)
        cells = (self._difference > self._settings.changed).mean(axis=(1, 2))  # fraction, frame by frame
        return bool(cells.max() >= self._settings.cells)
