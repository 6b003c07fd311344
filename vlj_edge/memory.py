"""Checks of free memory, before work that may need more."""

from __future__ import annotations

from pathlib import Path

from .errors import VljEdgeError

_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")


def available() -> int | None:
    """Return the bytes that this process can still allocate, without swap; None if unknown (not Linux)."""
    try:
        fields = dict(line.split(":", 1) for line in _MEMINFO.read_text(encoding="ascii").splitlines())
        free = int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None
    limit, used = _number(_CGROUP / "memory.max"), _number(_CGROUP / "memory.current")
    if limit is not None and used is not None:  # a container's limit; its page cache counts as used but is freed first
        free = min(free, max(limit - used, 0) + (_reclaimable(_CGROUP / "memory.stat")))
    return free


def require_memory(needed: int, purpose: str, remedy: str) -> None:
    """Refuse work that needs more memory than is free.

    Args:
        needed: bytes.
        purpose: the work, for the error.
        remedy: what the user can do, for the error.

    Raises:
        VljEdgeError: fewer than `needed` bytes are free. Not raised if free memory is unknown.
    """
    free = available()
    if free is not None and free < needed:
        raise VljEdgeError(
            f"{purpose} needs about {needed / 1e9:.1f} GB of memory and {free / 1e9:.1f} GB are free: {remedy}"
        )


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):  # no such file, or "max"
        return None


def _reclaimable(path: Path) -> int:
    try:
        fields = dict(line.split() for line in path.read_text(encoding="ascii").splitlines())
        return int(fields["file"])
    except (OSError, KeyError, ValueError):
        return 0
