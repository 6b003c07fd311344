"""Readings of the process and the machine, and the health of a channel."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

from ...profiling.power import EnergyMeter, Power
from ..channel import Channel

_STATM = Path("/proc/self/statm")


class PowerMeter:
    """Measures power, as the mean since the previous reading.

    Attributes:
        power: the latest reading.
    """

    def __init__(self) -> None:
        self.power = Power(None, None, "unknown", None)
        self._meter: EnergyMeter | None = None

    def read(self) -> None:
        """Take a reading and start the next one. For one thread at a time."""
        self.stop()
        self._meter = EnergyMeter()
        self._meter.__enter__()

    def stop(self) -> None:
        """Take the last reading."""
        if self._meter is not None:
            self._meter.__exit__()
            self.power, self._meter = self._meter.power, None


def memory_megabytes() -> float:
    """Return the resident memory of this process; its peak if the system does not report the current value."""
    try:
        return round(int(_STATM.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)
    except (OSError, ValueError, IndexError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return round(peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6, 1)


def channel_problem(channel: Channel) -> str | None:
    """Return why a channel does not work, or None if it works or has been read to its end."""
    if channel.error is not None:
        return channel.error
    if channel.is_stuck():
        return channel.problem or "frames arrive, but no window is processed: restart vlj-edge"
    return None
