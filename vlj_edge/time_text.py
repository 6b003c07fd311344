"""Times as users write them: 90, 90s, 500ms, 1.5min, 10m, 1h, 1:30, 0:01:30.5."""

from __future__ import annotations

import re

from .schema import Written

HOW = "write 90, 90s, 500ms, 1.5min, 1:30 or 0:01:30"
_LONGEST = 1e9  # seconds
_UNITS = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def seconds_of(text: str) -> float | None:
    """Return the seconds that a text means, 0 or more; None if it is no time."""
    text = text.strip()
    with_unit = re.fullmatch(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*(ms|s|min|m|h|d|)", text)
    clock = re.fullmatch(r"(?:([0-9]+):)?([0-5]?[0-9]):([0-5]?[0-9](?:\.[0-9]*)?)", text)
    seconds = float("inf")
    if with_unit is not None:
        seconds = float(with_unit[1]) * _UNITS[with_unit[2]]
    elif clock is not None:
        seconds = float(clock[1] or 0) * 3600 + float(clock[2]) * 60 + float(clock[3])
    return seconds if seconds <= _LONGEST else None


def time_text(seconds: float) -> str:
    """Return a time as seconds_of() reads it: 9.5s, 1:02.5 or 1:01:02.5."""
    tenths = round(seconds * 10)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    if hours or minutes:
        return f"{f'{hours}:{minutes:02d}' if hours else minutes}:{rest / 10:04.1f}"
    return f"{rest / 10:.1f}s"


SECONDS = Written(seconds_of, f"no time: {HOW}")  # of a field of seconds, which may be a number, too
