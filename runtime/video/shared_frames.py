"""Shared memory between a reader process and the one that looks: three frames, of which the newest whole one is taken.

A writer that is killed in the midst of a frame leaves that slot with a number that does not fit, and no lock held.
"""

from __future__ import annotations

import mmap
import os
import struct
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

MOST_PIXELS = 3840 * 2160  # of a frame; memory is taken as it is used
_COUNT = 3  # one is written, one is read, one is the newest
_STATE = struct.Struct("<QQ")  # number of the newest frame, from 1 on; frames that could not be decoded
_SLOT = struct.Struct("<QdIIQ")  # number, monotonic seconds, height, width, number again: both fit when it is whole
_HEAD = 64
_SLOT_SIZE = _HEAD + MOST_PIXELS * 3


class SharedFrame(NamedTuple):
    """A frame out of a slot: its number, seconds (time.monotonic()), uint8 [height, width, 3] BGR."""

    number: int
    time: float
    image: npt.NDArray[np.uint8]


def create_shared_memory() -> int:
    """A file descriptor of memory for Slots. It goes when the last process lets go of it, and has no name to leak."""
    descriptor = os.memfd_create("vlj-edge frames")
    os.ftruncate(descriptor, _HEAD + _COUNT * _SLOT_SIZE)
    return descriptor


class SharedFrames:
    """Frames in the memory of a descriptor; one process puts, one takes."""

    def __init__(self, descriptor: int) -> None:
        self._memory = mmap.mmap(descriptor, _HEAD + _COUNT * _SLOT_SIZE)

    def put(self, time: float, image: npt.NDArray[np.uint8]) -> None:
        """Add the newest frame, uint8 [height, width, 3] BGR of at most MOST_PIXELS."""
        newest, bad = _STATE.unpack_from(self._memory)
        number = newest + 1
        at = _HEAD + number % _COUNT * _SLOT_SIZE
        height, width = image.shape[:2]
        _SLOT.pack_into(self._memory, at, number, time, height, width, 0)
        room = np.frombuffer(self._memory, np.uint8, height * width * 3, at + _HEAD)
        room[...] = image.reshape(-1)
        del room  # the memory cannot be let go of under an array
        _SLOT.pack_into(self._memory, at, number, time, height, width, number)
        _STATE.pack_into(self._memory, 0, number, bad)

    def count_bad(self) -> None:
        """One frame more that could not be decoded."""
        newest, bad = _STATE.unpack_from(self._memory)
        _STATE.pack_into(self._memory, 0, newest, bad + 1)

    @property
    def bad(self) -> int:
        """Frames that could not be decoded."""
        return int(_STATE.unpack_from(self._memory)[1])

    def take(self, after: int) -> SharedFrame | None:
        """The newest frame, if it is newer than that number."""
        for _ in range(_COUNT):  # written over meanwhile: then there is a newer one
            newest, _ = _STATE.unpack_from(self._memory)
            if newest <= after:
                return None
            at = _HEAD + newest % _COUNT * _SLOT_SIZE
            number, time, height, width, again = _SLOT.unpack_from(self._memory, at)
            if not number == again == newest or height * width > MOST_PIXELS:
                continue
            room = np.frombuffer(self._memory, np.uint8, height * width * 3, at + _HEAD)
            image = room.reshape(height, width, 3).copy()
            del room
            if _SLOT.unpack_from(self._memory, at) == (number, time, height, width, number):
                return SharedFrame(number, time, image)
        return None

    def close(self) -> None:
        """Let go of the memory."""
        self._memory.close()
