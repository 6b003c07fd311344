"""A generated video that needs no file and no camera: a square that moves and rests in turn."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np

from .source import Frame, Source

_PHASE = 4.0  # seconds of movement, then of rest


class SyntheticSource(Source):
    """Frames of 640x480 at 30 a second; the same ones every time."""

    period, shown = 1 / 30, "a generated video"

    def __init__(self, seconds: float = 60.0) -> None:
        self._count, self._stop = round(seconds / self.period), threading.Event()

    def frames(self) -> Iterator[Frame]:
        """See Source."""
        ramp = np.linspace(40, 120, 640, dtype=np.float32)
        background = np.broadcast_to(ramp[None, :, None], (480, 640, 3)).astype(np.uint8)
        for number in range(self._count):
            if self._stop.is_set():
                return
            time = number * self.period
            phase = time // (2 * _PHASE) + min(time % (2 * _PHASE), _PHASE) / _PHASE
            image = background.copy()
            x, y = int(270 + 250 * np.sin(2.1 * phase)), int(190 + 170 * np.cos(1.3 * phase))
            image[y : y + 100, x : x + 100] = (30, 60 + 30 * (int(phase) % 6), 220)
            yield Frame(time, image)

    def interrupt(self) -> None:
        """See Source."""
        self._stop.set()

    def close(self) -> None:
        """See Source."""
        self._stop.set()
