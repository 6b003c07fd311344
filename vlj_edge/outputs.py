"""The check that an output overwrites no input: by device and inode, so links and other spellings do not hide it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from .errors import WrongCall


def refuse_overwriting(option: str, output: Path | int, inputs: Iterable[Path | int]) -> None:
    """Check that a file to be written is none of the inputs.

    Args:
        option: for the message.
        output: a path, or an open file.
        inputs: paths and open files; missing ones are ignored. A bundle or a store stands for all its files; other
            folders are ignored.

    Raises:
        WrongCall: it is one of them.
    """
    ours = identity(output)
    if ours is None:
        return
    for each in inputs:
        if ours == identity(each) or (isinstance(each, Path) and _holds(each, output, ours)):
            shown = "stdout" if isinstance(output, int) else output
            source = f"{each}, which is read" if isinstance(each, Path) else "what is read from stdin"
            raise WrongCall(f"{option} {shown} would overwrite {source}: name another file")


def refuse_replacing(option: str, folder: Path, inputs: Iterable[Path]) -> None:
    """Check that a folder which is to be replaced is and holds none of the inputs.

    Raises:
        WrongCall: it does.
    """
    if not folder.exists():
        return
    for each in inputs:
        if each.exists() and any(os.path.samefile(folder, place) for place in _with_parents(each)):
            raise WrongCall(f"{option} {folder} would replace {each}, which is read: name another place")


def is_whole(folder: Path) -> bool:
    """Return whether all files of a folder belong together, as in a bundle or a store."""
    if not os.path.isdir(folder):  # False for a text that is too long for a name, such as a query
        return False
    return any(path.name == "manifest.json" or path.suffix == ".lance" for path in folder.iterdir())


def identity(file: Path | int) -> tuple[int, int] | None:
    """Return device and inode; None for a missing file, a folder, a terminal or another device without content."""
    try:
        found = os.stat(file)
    except (OSError, ValueError):
        return None
    kinds = (stat.S_ISREG, stat.S_ISFIFO, stat.S_ISBLK)
    return (found.st_dev, found.st_ino) if any(kind(found.st_mode) for kind in kinds) else None


def _holds(folder: Path, output: Path | int, ours: tuple[int, int]) -> bool:
    if not is_whole(folder):
        return False
    if isinstance(output, Path) and any(os.path.samefile(folder, place) for place in _with_parents(output)[1:]):
        return True
    return any(ours == identity(path) for path in folder.rglob("*"))


def _with_parents(path: Path) -> list[Path]:
    real = Path(os.path.realpath(path))
    return [real, *real.parents]
