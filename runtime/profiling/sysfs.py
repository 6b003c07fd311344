"""Read files of sysfs, which hold one value each. None if missing, unreadable or malformed."""

from __future__ import annotations

from pathlib import Path


def read_text(path: Path) -> str | None:
    """Return the content without the end of the line."""
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None


def read_int(path: Path) -> int | None:
    """Return the content as an integer."""
    found = read_text(path)
    try:
        return int(found) if found else None
    except ValueError:
        return None
