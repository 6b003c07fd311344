"""The scene gate: skips the encoder while the picture is that of the clip last encoded."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vlj_edge import bundle

from ..video.preprocess import THUMBNAIL, SampledFrame


class SceneGate:
    """Decides whether the picture has changed since the clip that was last encoded.

    Two clips are the same when their frames look the same one by one, which is all that the encoder gets: a still clip
    after a moving one differs from it in the frames that moved. The comparison is with the clip last *encoded*:
    compared with the previous clip, slow drift would never count as a change.
    """

    def __init__(self, settings: bundle.SceneGateSettings, frames: int) -> None:
        self._settings = settings
        self._encoded = np.empty((frames, THUMBNAIL, THUMBNAIL), np.float32)
        self._now = np.empty_like(self._encoded)
        self._difference = np.empty_like(self._encoded)
        self._first = True

    def changed(self, frames: Sequence[SampledFrame]) -> bool:
        """Return whether this clip must be encoded; if so, later clips are compared with it.

        Args:
            frames: the sampled frames of the clip, oldest first.
        """
        for cells, frame in zip(self._now, frames, strict=True):
            cells[...] = frame.luminance
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
