"""One value a file, as the kernel shows it. None: it is not there, not to be read, or no value."""

from __future__ import annotations

from pathlib import Path


def text(path: Path) -> str | None:
    """What stands in it, without the end of the line."""
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None


def number(path: Path) -> int | None:
    """The same as a whole number."""
    found = text(path)
    try:
        return int(found) if found else None
    except ValueError:
        return None
