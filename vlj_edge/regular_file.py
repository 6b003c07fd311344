"""Only regular files are read where a file is meant: a pipe or a device may never end, or never begin."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from .errors import VljEdgeError

LONGEST_NAME = 255  # letters of a file's name: no system takes more


MOST_TEXT = 100_000_000  # bytes of a text file: a video named by mistake must not be read into memory


def with_home(path: str | Path) -> Path:
    """Return a path with the home folder in place of ~ or ~user. Where there is none it stays as it is, in which
    Path.expanduser() fails: "~20 people, a dog" are labels.
    """
    try:
        return Path(os.path.expanduser(path))
    except ValueError:  # with a zero byte
        return Path(path)


def check_regular_file(path: str | Path, remedy: str, most_bytes: int | None = None) -> None:
    """Check that a path names no folder, pipe, socket or device, and no larger file. One that names nothing passes:
    reading it says why.

    Raises:
        VljEdgeError: it does.
    """
    try:
        found = Path(path).stat()
    except (OSError, ValueError):
        return
    mode = found.st_mode
    kinds = {stat.S_IFDIR: "folder", stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket"}
    if not stat.S_ISREG(mode):
        raise VljEdgeError(f"{path} is a {kinds.get(stat.S_IFMT(mode), 'device')} and no file: {remedy}")
    if most_bytes is not None and found.st_size > most_bytes:
        sizes = (
            f"{size / 1e6:.0f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB" for size in (found.st_size, most_bytes)
        )
        raise VljEdgeError(f"{path} has {next(sizes)}, and at most {next(sizes)} are read: {remedy}")
