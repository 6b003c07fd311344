"""Frames in memory that two processes share: one writes, the other reads the newest complete frame.

There are three slots and no lock, so a writer can be killed at any time. A slot's frame number is stored before and
after its pixels; the two differ if a frame is incomplete.
"""

from __future__ import annotations

import mmap
import os
import struct
from contextlib import suppress
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

MOST_PIXELS = 3840 * 2160  # of a frame; the system allocates memory only when it is used
_COUNT = 3  # slots: one being written, one being read, and the newest
_STATE = struct.Struct("<QQ")  # number of the newest frame, from 1 on; frames that could not be decoded
_SLOT = struct.Struct("<QdIIQ")  # number, time.monotonic(), height, width, number again
_HEAD = 64
_SLOT_SIZE = _HEAD + MOST_PIXELS * 3


class SharedFrame(NamedTuple):
    """One frame: its number, counted from 1; time.monotonic() of its capture; uint8 [height, width, 3] BGR."""

    number: int
    time: float
    image: npt.NDArray[np.uint8]


def create_shared_memory() -> int:
    """Return a file descriptor of memory for SharedFrames, which is freed when the last process closes it."""
    descriptor = os.memfd_create("vlj-edge frames")
    try:
        os.ftruncate(descriptor, _HEAD + _COUNT * _SLOT_SIZE)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


class SharedFrames:
    """Frames in the memory behind a file descriptor, which the caller still owns; one process writes, one reads."""

    def __init__(self, descriptor: int) -> None:
        self._memory = mmap.mmap(descriptor, _HEAD + _COUNT * _SLOT_SIZE)

    def write(self, time: float, image: npt.NDArray[np.uint8]) -> None:
        """Write a frame, uint8 [height, width, 3] BGR of at most MOST_PIXELS, over the oldest one."""
        newest, bad = _STATE.unpack_from(self._memory)
        number = newest + 1
        at = _HEAD + number % _COUNT * _SLOT_SIZE
        height, width = image.shape[:2]
        _SLOT.pack_into(self._memory, at, number, time, height, width, 0)
        self._pixels(at, height, width)[...] = image
        _SLOT.pack_into(self._memory, at, number, time, height, width, number)
        _STATE.pack_into(self._memory, 0, number, bad)

    def count_bad(self) -> None:
        """Add one to the number of frames that could not be decoded."""
        newest, bad = _STATE.unpack_from(self._memory)
        _STATE.pack_into(self._memory, 0, newest, bad + 1)

    @property
    def bad(self) -> int:
        """Number of frames that could not be decoded."""
        return int(_STATE.unpack_from(self._memory)[1])

    def read_newest(self, after: int) -> SharedFrame | None:
        """Return a copy of the newest frame; None if its number is not above `after`."""
        for _ in range(_COUNT):  # if a frame is overwritten while it is read, there is a newer one
            newest, _ = _STATE.unpack_from(self._memory)
            if newest <= after:
                return None
            at = _HEAD + newest % _COUNT * _SLOT_SIZE
            number, time, height, width, again = _SLOT.unpack_from(self._memory, at)
            if not number == again == newest or height * width > MOST_PIXELS:
                continue
            image = self._pixels(at, height, width).copy()
            if _SLOT.unpack_from(self._memory, at) == (number, time, height, width, number):
                return SharedFrame(number, time, image)
        return None

    def close(self) -> None:
        """Release the memory."""
        with suppress(BufferError):  # an interrupted copy still refers to it, and releases it later
            self._memory.close()

    def _pixels(self, at: int, height: int, width: int) -> npt.NDArray[np.uint8]:
        return np.frombuffer(self._memory, np.uint8, height * width * 3, at + _HEAD).reshape(height, width, 3)
