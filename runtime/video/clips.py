"""Clips of a video as encoder inputs, for calibrating int8 scales and for measurements."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vlj_edge.errors import VljEdgeError
from vlj_edge.presets import Clip, Preprocess

from .part import check_ends
from .preprocess import CpuPreprocessor, crop_and_resize
from .sampling import samples, windows
from .source import Source
from .uri import open_source


def spread_clips(
    source: str | Path | Source, clip: Clip, preprocess: Preprocess, most: int
) -> list[npt.NDArray[np.float32]]:
    """Return at most `most` clips, evenly spread over a recording.

    Each is float32 [1, frames, 3, crop, crop], normalised.

    Raises:
        VljEdgeError: the source cannot be read, has no frame, or has no end.
    """
    with source if isinstance(source, Source) else open_source(source, sampled_at=clip.frames_per_second) as opened:
        check_ends(opened)
        cropped = samples(opened, clip, partial(crop_and_resize, preprocess=preprocess), opened.period)
        found = [frames for _, frames in windows(cropped, clip)]
    if not found:
        raise VljEdgeError(f"{source} holds no frame: name a video")
    pixels = np.empty((1, clip.frames, 3, preprocess.crop, preprocess.crop), np.float32)
    preprocessor = CpuPreprocessor(pixels, preprocess)
    clips = []
    for index in np.unique(np.linspace(0, len(found) - 1, min(most, len(found))).round().astype(int)):
        preprocessor.fill(found[index])
        clips.append(pixels.copy())
    return clips
