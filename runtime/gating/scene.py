"""The scene gate: skips the encoder while the picture is that of the clip last encoded."""

from __future__ import annotations

from collections.abc import Sequence

from vlj_edge import bundle
from vlj_edge.decisions import Check, Decision

from ..video.preprocess import SampledFrame
from .checks import Checks
from .picture_noise import Cells, PictureNoise, difference, smoothed
from .rest import cells_of


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
        self._check, self._verdict, self._cause = Checks(), "encoded", ""

    def decision(self, window: int) -> Decision:
        """Return what was decided about the latest clip; `window` is its index. Of all frames, the largest values."""
        largest: dict[str, Check] = {}
        for check in self._check.made:
            largest[check.name] = max(largest.get(check.name, check), check, key=lambda each: each.value)
        return Decision("scene", self._verdict, tuple(largest.values()), self._cause or None, window)

    def changed(self, frames: Sequence[SampledFrame]) -> bool:
        """Return whether this clip must be encoded; if so, later clips are compared with it.

        Args:
            frames: the sampled frames of the clip, oldest first.
        """
        self._check.reset()
        if not self._settings.enabled:
            self._cause = "off"
            return True
        now = [smoothed(frame.luminance) for frame in frames]
        pairs = zip(now, self._encoded, strict=False)
        self._cause = "" if self._encoded else "first"
        differs = not self._encoded or any(self._differs(cells, encoded) for cells, encoded in pairs)
        self._verdict = "encoded" if differs else "repeated"
        if differs:
            self._encoded = now
        return differs

    def _differs(self, now: Cells, encoded: Cells) -> bool:
        settings = self._settings
        if self._check("changed", abs(float(now.mean()) - float(encoded.mean())), ">", settings.changed):
            return True
        shaking = settings.shaking if self._noise.may_shake else None
        found = difference(now, encoded, settings.changed, shaking)
        cells = self._noise.changed(found, settings.changed, settings.times_noise)
        return self._check("cells", cells, ">=", cells_of(settings))
