"""The output of a reader process to its parent: frames in shared memory, and lines in a pipe."""

from __future__ import annotations

import os
import time

import numpy as np
import PIL.Image

from ..source import Image
from .shared_frames import MOST_PIXELS, SharedFrames

_SILENT_FOR = 1.0  # seconds with packets but no frame after which "waiting" is sent


class ReaderOutput:
    """The child's end of ReaderProcess (reader_process.py).

    Lines: "open RATE"; "warning TEXT"; "decoder NAME"; "frame"; "waiting", if packets arrive but no frame yet;
    and last "failed REASON", "finished" or "end".

    Args:
        memory, pipe: file descriptors of the shared memory and the pipe.
        every: minimum seconds between two frames.
    """

    def __init__(self, memory: int, pipe: int, every: float) -> None:
        self.every = every
        self._frames, self._pipe = SharedFrames(memory), pipe
        self._sent_at, self._due = time.monotonic(), 0.0

    def is_due(self, time: float) -> bool:
        """Return whether a frame of this time.monotonic() is to be published."""
        return time >= self._due

    def send(self, line: str) -> bool:
        """Send a line. False if the parent is gone."""
        self._sent_at = time.monotonic()
        try:
            os.write(self._pipe, f"{line}\n".encode())
        except BlockingIOError:  # the parent still finds the newest frame in shared memory
            pass
        except BrokenPipeError:
            return False
        return True

    def publish(self, time: float, image: Image) -> bool:
        """Publish a frame, uint8 [height, width, 3] BGR, with its time.monotonic(). False if the parent is gone."""
        next_due = self._due + self.every  # so that slightly late frames do not lower the rate
        self._due = next_due if next_due > time else time + self.every
        self._frames.write(time, _fitting(image))
        return self.send("frame")

    def packet_came(self) -> None:
        """Record that a packet arrived, which may be only a part of a frame."""
        if time.monotonic() - self._sent_at > _SILENT_FOR:
            self.send("waiting")

    def count_bad(self) -> None:
        """Count a frame that could not be decoded."""
        self._frames.count_bad()


def _fitting(image: Image) -> Image:
    """Scale down to at most MOST_PIXELS."""
    pixels = image.shape[0] * image.shape[1]
    if pixels <= MOST_PIXELS:
        return image
    scale = (MOST_PIXELS / pixels) ** 0.5
    size = (max(1, int(image.shape[1] * scale)), max(1, int(image.shape[0] * scale)))
    return np.asarray(PIL.Image.fromarray(image).resize(size, PIL.Image.Resampling.BOX))
