"""How models see a video: as clips of pictures by themselves, or of frames that the model takes together."""

from __future__ import annotations

from vlj_edge.presets import Clip

# A clip of pictures covers 2 s and moves on by 1 s: enough frames for an average, few enough for a small device.
_FRAMES, _FRAMES_PER_SECOND, _STRIDE = 4, 2.0, 2
_WINDOWS = 4  # of a video model, in the time of a clip


def image_clip(frames: int | None) -> Clip:
    """Return the clip of a model that encodes each frame by itself; `frames` replaces the default."""
    frames = frames or _FRAMES
    return Clip(frames, _FRAMES_PER_SECOND, min(_STRIDE, frames))


def video_clip(frames: int, frames_per_second: float) -> Clip:
    """Return the clip of a model of video."""
    return Clip(frames, frames_per_second, max(frames // _WINDOWS, 1))
