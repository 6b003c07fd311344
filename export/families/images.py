"""How models of single images see a video."""

from __future__ import annotations

from vlj_edge.presets import Clip

# A clip covers 2 s and moves on by 1 s: enough frames for an average, few enough for a small device.
_FRAMES, _FRAMES_PER_SECOND, _STRIDE = 4, 2.0, 2


def image_clip(frames: int | None) -> Clip:
    """Return the clip of a model that encodes each frame by itself; `frames` replaces the default."""
    frames = frames or _FRAMES
    return Clip(frames, _FRAMES_PER_SECOND, min(_STRIDE, frames))
