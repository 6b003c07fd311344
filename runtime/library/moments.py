"""The types of stored videos and moments, and of search hits."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..video.part import Part

Vectors = npt.NDArray[np.float32]


class Video(NamedTuple):
    """A stored video: absolute path, size in bytes, time of the last change in ns since 1970, and what of it is stored.

    `reading` is how it was read (see reading_of()); empty: whole, and as it is.
    """

    path: str
    size: int
    modified: int
    reading: str = ""


@dataclass(frozen=True, eq=False)
class VideoMoments:
    """The moments of a video. Consecutive windows with the same embedding are one moment.

    Attributes:
        start, end: float64 [moments], seconds.
        embeddings: float32 [moments, embedding], rows of unit length; stored as float16.
        thumbnails: a JPEG for each moment, or None for those without; None: there are none.
    """

    video: Video
    start: npt.NDArray[np.float64]
    end: npt.NDArray[np.float64]
    embeddings: Vectors
    thumbnails: Sequence[bytes | None] | None = None


class Hit(NamedTuple):
    """A stored moment: path, start and end in seconds, cosine (-1..1) to the query, and its index within the video."""

    path: str
    start: float
    end: float
    score: float
    number: int = -1


def reading_of(part: Part, rotate: int = 0) -> str:
    """Return the arguments of open_source() that are not the defaults, as JSON: a part is not the whole. The decoder is
    left out, since it does not change what a video shows."""
    values = vars(part) | {"rotate": rotate}
    default = vars(Part()) | {"rotate": 0}
    changed = {name: value for name, value in values.items() if value != default[name] and name != "decoder"}
    return json.dumps(changed, sort_keys=True) if changed else ""


def arguments_of(reading: str) -> dict[str, Any]:
    """Return the arguments of open_source() that reading_of() was given."""
    found: dict[str, Any] = json.loads(reading or "{}")
    return found


class SeenWindow(NamedTuple):
    """A window of a video: start and end in seconds, embedding, and a JPEG of it or None."""

    start: float
    end: float
    embedding: Vectors
    thumbnail: bytes | None = None


def merge_windows(video: Video, windows: Iterable[SeenWindow]) -> VideoMoments | None:
    """Merge consecutive windows that share one embedding object, because the scene gate has skipped the encoder. A
    moment has the thumbnail of its first window.

    Returns:
        The moments; None if there are no windows.
    """
    starts, ends, rows, thumbnails = list[float](), list[float](), list[Vectors](), list[bytes | None]()
    for start, end, embedding, thumbnail in windows:
        if rows and embedding is rows[-1]:
            ends[-1] = end
            continue
        starts.append(start)
        ends.append(end)
        rows.append(embedding)
        thumbnails.append(thumbnail)
    return VideoMoments(video, np.array(starts), np.array(ends), np.stack(rows), thumbnails) if rows else None


def path_literal(path: str) -> str:
    """Return a path, as it is stored, as an SQL literal."""
    return "'" + stored_path(path).replace("'", "''") + "'"


def stored_path(path: str) -> str:
    """Return an absolute path as UTF-8 text: a byte that is not valid UTF-8 becomes //xFF, which no absolute path
    contains after its first character."""
    return re.sub("[\udc80-\udcff]", lambda found: f"//x{ord(found[0]) - 0xDC00:02x}", path)


def real_path(stored: str) -> str:
    """Return the path that stored_path() was given."""
    return re.sub("(?<=.)//x([89a-f][0-9a-f])", lambda found: chr(0xDC00 + int(found[1], 16)), stored)
