"""Videos and their moments: what is stored, and what is found."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]


class Video(NamedTuple):
    """A stored video: absolute path, size in bytes, and time of the last change in ns since 1970."""

    path: str
    size: int
    modified: int


@dataclass(frozen=True, eq=False)
class VideoMoments:
    """The moments of a video. Consecutive windows with the same embedding are one moment.

    Attributes:
        start, end: float64 [moments], seconds.
        embeddings: float32 [moments, embedding], rows of unit length; stored as float16.
    """

    video: Video
    start: npt.NDArray[np.float64]
    end: npt.NDArray[np.float64]
    embeddings: Vectors


class Hit(NamedTuple):
    """A stored moment: path, start and end in seconds, cosine (-1..1) to the query, and its index within the video."""

    path: str
    start: float
    end: float
    score: float
    number: int = -1


def merge_windows(video: Video, windows: Iterable[tuple[float, float, Vectors]]) -> VideoMoments | None:
    """Merge consecutive windows that share one embedding object, because the scene gate has skipped the encoder.

    Args:
        windows: start and end in seconds, and embedding, in order.

    Returns:
        The moments; None if there are no windows.
    """
    starts, ends, rows = list[float](), list[float](), list[Vectors]()
    for start, end, embedding in windows:
        if rows and embedding is rows[-1]:
            ends[-1] = end
            continue
        starts.append(start)
        ends.append(end)
        rows.append(embedding)
    return VideoMoments(video, np.array(starts), np.array(ends), np.stack(rows)) if rows else None


def path_literal(path: str) -> str:
    """Return a path, as it is stored, as an SQL literal."""
    return "'" + stored_path(path).replace("'", "''") + "'"


def stored_path(path: str) -> str:
    """Return an absolute path as UTF-8 text: a byte of its names that is none becomes //xFF, which no path contains
    behind its first character."""
    return re.sub("[\udc80-\udcff]", lambda found: f"//x{ord(found[0]) - 0xDC00:02x}", path)


def real_path(stored: str) -> str:
    """Return the path that stored_path() was given."""
    return re.sub("(?<=.)//x([89a-f][0-9a-f])", lambda found: chr(0xDC00 + int(found[1], 16)), stored)
