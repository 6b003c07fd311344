"""Whole clips of a source, as the encoder would get them: to set int8 scales, or to measure on."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vlj_edge.errors import VljEdgeError
from vlj_edge.presets import Clip, Preprocess

from .preprocess import CpuPreprocessor, crop_and_resize
from .sampling import samples, windows
from .source import Source
from .uri import open_source


def spread_clips(
    source: str | Path | Source, clip: Clip, preprocess: Preprocess, most: int
) -> list[npt.NDArray[np.float32]]:
    """At most `most` clips, float32 [1, frames, 3, crop, crop], normalised, evenly spread over a source that ends.

    Raises:
        VljEdgeError: the source cannot be read, or holds no frame.
    """
    with_frames = source if isinstance(source, Source) else open_source(source, clip.frames_per_second)
    try:
        pictures = samples(with_frames, clip, partial(crop_and_resize, preprocess=preprocess), with_frames.period)
        found = [held for _, held in windows(pictures, clip)]
    finally:
        with_frames.close()
    if not found:
        raise VljEdgeError(f"{source} holds no frame: name a video")
    pixels = np.empty((1, clip.frames, 3, preprocess.crop, preprocess.crop), np.float32)
    filling = CpuPreprocessor(pixels, preprocess)
    clips = []
    for index in np.unique(np.linspace(0, len(found) - 1, min(most, len(found))).round().astype(int)):
        filling.fill(found[index])
        clips.append(pixels.copy())
    return clips
