"""Check what an MP4 or QuickTime file claims before FFmpeg reads it: an index is made of every sample that it states.

A table can state any number of samples in a few bytes, each of which takes some 24 bytes of memory.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from vlj_edge.errors import VljEdgeError

# Boxes that hold others, on the way to a table of samples (ISO/IEC 14496-12).
_HOLDERS = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf"}
_COUNT_AT = {b"stsz": 8, b"stz2": 8, b"trun": 4}  # bytes from the start of a box's content to its number of samples
_MOST_BOXES = 100_000  # looked at; a film of ten hours in fragments of a second has as many


def check_samples(path: Path, shown: str) -> None:
    """Refuse a file of more samples than it has bytes; anything but MP4 passes.

    Raises:
        VljEdgeError: it states more.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            stated = sum(_counts(file, size))
    except OSError:  # whoever opens it next says so
        return
    if stated > 8 * size:  # old codecs of QuickTime count several samples a byte
        raise VljEdgeError(
            f"{shown} states {stated} pictures and sounds in {size} bytes: it is damaged or made to do harm, copy or"
            " record it again"
        )


def _counts(file: BinaryIO, size: int) -> Iterator[int]:
    """Yield the number of samples of every table."""
    pending = [(0, size)]
    for _ in range(_MOST_BOXES):
        if not pending:
            return
        at, end = pending.pop()
        file.seek(at)
        head = file.read(min(32, end - at))
        if len(head) < 8:
            continue
        length, kind = struct.unpack(">I4s", head[:8])
        begin = 8
        if length == 1 and len(head) >= 16:
            length, begin = struct.unpack(">Q", head[8:16])[0], 16
        following = end if length == 0 else min(at + length, end)
        if length and length < begin:
            continue
        if following < end:
            pending.append((following, end))
        if kind in _HOLDERS:
            pending.append((at + begin, following))
        elif kind in _COUNT_AT:
            count = head[begin + _COUNT_AT[kind] :][:4]
            yield int.from_bytes(count, "big") if len(count) == 4 else 0
