"""The scene gate: skips the encoder while the picture is that of the clip last encoded."""

from __future__ import annotations

from collections.abc import Sequence

from vlj_edge import bundle

from ..video.preprocess import SampledFrame
from .picture_noise import Cells, PictureNoise, difference, smoothed


class SceneGate:
    """Decides whether the picture has changed since the clip that was last encoded, beyond the noise of its stream.

    Two clips are the same when their frames look the same one by one, which is all that the encoder gets: a still clip
    after a moving one differs from it in the frames that moved. The comparison is with the clip last *encoded*;
    compared with the previous clip, slow drift would never count as a change.

    Args:
        noise: of the stream, learned elsewhere (RestDetector).
    """

    def __init__(self, settings: bundle.SceneGateSettings, noise: PictureNoise) -> None:
        self._settings, self._noise = settings, noise
        self._encoded: list[Cells] = []

    def changed(self, frames: Sequence[SampledFrame]) -> bool:
        """Return whether this clip must be encoded; if so, later clips are compared with it.

        Args:
            frames: the sampled frames of the clip, oldest first.
        """
        if not self._settings.enabled:
            return True
        now = [smoothed(frame.luminance) for frame in frames]
        pairs = zip(now, self._encoded, strict=False)
        if self._encoded and not any(self._differs(cells, encoded) for cells, encoded in pairs):
            return False
        self._encoded = now
        return True

    def _differs(self, now: Cells, encoded: Cells) -> bool:
        settings = self._settings
        if abs(float(now.mean()) - float(encoded.mean())) > settings.changed:
            return True
        shaking = settings.shaking if self._noise.may_shake else None
        found = difference(now, encoded, settings.changed, shaking)
        return self._noise.changed(found, settings.changed, settings.times_noise) >= settings.cells * found.cells.size
