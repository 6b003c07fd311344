"""The videos in folders."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
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
        VljEdgeError: a path does not exist, or a given folder cannot be read.
    """
    found: dict[Path, None] = {}
    for path in _matching(paths):
        if path.is_dir():
            found |= {
                (folder / name).absolute(): None for folder, names in _walk(path) for name in names if _is_video(name)
            }
        else:
            found[path.absolute()] = None
    return list(found)


def find_recordings(paths: Iterable[str | Path]) -> list[Path]:
    """Return what find_videos() finds. Of a folder without any, return itself and the folders below it, except hidden
    ones, that hold images: each is one recording.

    Raises:
        VljEdgeError: as find_videos().
    """
    found: dict[Path, None] = {}
    for path in _matching(paths):
        videos = find_videos([path])
        if not videos:
            videos = [folder.absolute() for folder, names in _walk(path) if any(map(_is_image, names))]
        found |= dict.fromkeys(videos)
    return list(found)


def has_images(folder: Path) -> bool:
    """Return whether images lie in a folder, not below it, except hidden ones."""
    return any(_is_image(path.name) and path.is_file() for path in folder.iterdir())


def _matching(paths: Iterable[str | Path]) -> Iterator[Path]:
    """Yield the paths that exist, and those that match the ones that do not."""
    for path in map(Path, paths):
        found = [path] if path.exists() else [Path(match) for match in sorted(glob.glob(str(path), recursive=True))]
        if not found:
            raise VljEdgeError(f"{path} does not exist: check the path")
        yield from found


def _walk(top: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield a folder and all below it, without hidden ones, each with the sorted names of its files."""

    def fail(error: OSError) -> None:
        if error.filename == str(top):
            raise VljEdgeError(f"{top} cannot be read ({error.strerror}): check its permissions") from error

    for folder, below, names in os.walk(top, onerror=fail):
        below[:] = sorted(name for name in below if not name.startswith("."))
        yield Path(folder), sorted(names)


def _is_video(name: str) -> bool:
    return not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES


def _is_image(name: str) -> bool:
    return not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES
