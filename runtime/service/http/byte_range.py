"""The Range header of a request, as players of video send it."""

from __future__ import annotations

import re

_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")


def byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Return the first and the last byte that are asked for of `size`; None: all of it, as is allowed where a range
    cannot be given.

    >>> byte_range("bytes=2-", 10), byte_range("bytes=-3", 10), byte_range("bytes=20-", 10)
    ((2, 9), (7, 9), None)
    """
    found = _RANGE.fullmatch((header or "").strip())
    if found is None or not size or not (found[1] or found[2]):
        return None
    if found[1]:
        first, last = int(found[1]), min(int(found[2]) if found[2] else size, size - 1)
    else:
        first, last = max(size - int(found[2]), 0), size - 1
    return (first, last) if first <= last else None
