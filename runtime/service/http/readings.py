"""What is read of the process and the machine: memory, power, and a channel's counts."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path
from typing import Any

from ...profiling.power import Meter, Power
from ..channel import Channel

_STATM = Path("/proc/self/statm")


class Gauge:
    """Power, as the mean since the reading before."""

    def __init__(self) -> None:
        self.power = Power(None, None, "unknown", None)
        self._meter: Meter | None = None

    def read(self) -> None:
        """Take a reading, and begin the next. One thread at a time."""
        self.stop()
        self._meter = Meter()
        self._meter.__enter__()

    def stop(self) -> None:
        """Take the last one."""
        if self._meter is not None:
            self._meter.__exit__()
            self.power, self._meter = self._meter.power, None


def memory_megabytes() -> float:
    """Resident memory of this process; its highest where the system does not say what it is now."""
    try:
        return round(int(_STATM.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)
    except (OSError, ValueError, IndexError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return round(peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6, 1)


def counts_of(channel: Channel) -> dict[str, Any]:
    """channel.counts(), whose pass may end, and whose delays may grow, while they are read."""
    for _ in range(20):
        try:
            return channel.counts()
        except (AttributeError, RuntimeError):
            continue
    return channel.counts()


def trouble(channel: Channel) -> str | None:
    """Why a channel does not work; None: it works, or has come to its end."""
    if channel.error is not None:
        return channel.error
    if channel.stuck():
        return "pictures come, and nothing is made of them: start vlj-edge again"
    try:
        dead = channel.join(0)
    except RuntimeError:  # it has not begun yet
        return None
    return "its thread has died: start vlj-edge again" if dead and channel.state != "ended" else None
