"""What the tests of the library share: the query, the type of make_video, and random embeddings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.runtime import tiny_bundle as by_hand
from vlj_edge.runtime.library.moments import Video, VideoMoments

Film = Callable[..., Path]
QUERY = "what colour is it"


def random_moments(path: str, count: int, seed: int = 0, width: int = by_hand.EMBEDDING) -> VideoMoments:
    rows = np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    start = np.arange(count) / 2
    return VideoMoments(Video(path, 1, 2), start, start + 1, rows)
