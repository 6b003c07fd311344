"""The videos in folders."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from pathlib import Path

from vlj_edge.errors import VljEdgeError

from .image_files import IMAGE_SUFFIXES

SUFFIXES = frozenset(
    [
        ".3gp",
        ".avi",
        ".flv",
        ".m2ts",
        ".m4v",
        ".mjpeg",
        ".mjpg",
        ".mkv",
        ".mov",
        ".mp4",
        ".mpeg",
        ".mpg",
        ".mts",
        ".ogv",
        ".ts",
        ".webm",
        ".wmv",
    ]
)


def find_videos(paths: Iterable[str | Path]) -> list[Path]:
    """Return absolute paths: the given files, and all videos in and below the given folders except hidden ones.

    A path that does not exist is used as a pattern, such as videos/*.mp4 or videos/**/*.mp4.

    Raises:
        VljEdgeError: a path does not exist.
    """
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        if path.is_dir():
            for folder, below, names in os.walk(path):
                below[:] = sorted(name for name in below if not name.startswith("."))
                videos = (name for name in sorted(names) if Path(name).suffix.lower() in SUFFIXES)
                found |= {(Path(folder) / name).absolute(): None for name in videos if not name.startswith(".")}
        elif path.exists():
            found[path.absolute()] = None
        elif matches := sorted(glob.glob(str(path), recursive=True)):
            found |= dict.fromkeys(find_videos(matches))
        else:
            raise VljEdgeError(f"{path} does not exist: check the path")
    return list(found)


def find_recordings(paths: Iterable[str | Path]) -> list[Path]:
    """Return what find_videos() finds, and each given folder that holds images and no video, which is one recording.

    Raises:
        VljEdgeError: a path does not exist.
    """
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        videos = find_videos([path])
        if not videos and path.is_dir() and has_images(path):
            videos = [path.absolute()]
        found |= dict.fromkeys(videos)
    return list(found)


def has_images(folder: Path) -> bool:
    """Return whether images lie in a folder, not below it."""
    return any(path.suffix.lower() in IMAGE_SUFFIXES for path in folder.iterdir())
