"""Only regular files are read where a file is meant: a pipe or a device may never end, or never begin."""

from __future__ import annotations

import stat
from pathlib import Path

from .errors import VljEdgeError

LONGEST_NAME = 255  # letters of a file's name: no system takes more


def check_regular_file(path: str | Path, remedy: str) -> None:
    """Check that a path names no folder, pipe, socket or device. One that names nothing passes: reading it says why.

    Raises:
        VljEdgeError: it does.
    """
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError):
        return
    kinds = {stat.S_IFDIR: "folder", stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket"}
    if not stat.S_ISREG(mode):
        raise VljEdgeError(f"{path} is a {kinds.get(stat.S_IFMT(mode), 'device')} and no file: {remedy}")
