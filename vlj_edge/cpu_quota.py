"""The processor time that a container may use, which the number of its cores does not show."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def cpu_quota(root: Path = Path("/")) -> float | None:
    """Return how many cores' worth of time this process's control groups (v1 or v2) grant; None if they set no limit.

    Args:
        root: of the trees /proc and /sys.
    """
    return min(_quotas(root), default=None)


def _quotas(root: Path) -> Iterator[float]:
    """Yield the limit of every group that this process is in, up to the top."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            tops = [root / "sys/fs/cgroup", root / "sys/fs/cgroup/unified"]
        elif "cpu" in controllers.split(","):
            tops = [root / "sys/fs/cgroup" / name for name in (controllers, "cpu", "cpu,cpuacct")]
        else:
            continue
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for top in tops:
            for count in range(len(parts) + 1):  # in a container, its own group may be the top of the tree
                yield from _quota(top.joinpath(*parts[:count]))


def _quota(group: Path) -> Iterator[float]:
    quota, _, period = _text(group / "cpu.max").partition(" ")  # "50000 100000", or "max 100000"
    if not quota:
        quota, period = _text(group / "cpu.cfs_quota_us"), _text(group / "cpu.cfs_period_us")  # -1: no limit
    try:
        if int(quota) > 0 and int(period or 100_000) > 0:
            yield int(quota) / int(period or 100_000)
    except ValueError:
        return


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
