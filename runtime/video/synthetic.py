"""A stream that needs no file and no camera: a square that moves, and rests, and moves again."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .source import Frame, Source

_SHOWN = 4.0  # seconds of movement, then of rest


class SyntheticSource(Source):
    """Frames of uint8 [480, 640, 3] at 30 a second; the same ones every time."""

    period = 1 / 30

    def __init__(self, seconds: float = 60.0) -> None:
        self._count = round(seconds / self.period)

    def frames(self) -> Iterator[Frame]:
        """See Source."""
        ramp = np.linspace(40, 120, 640, dtype=np.float32)
        background = np.broadcast_to(ramp[None, :, None], (480, 640, 3)).astype(np.uint8)
        for number in range(self._count):
            time = number * self.period
            phase = time // (2 * _SHOWN) + min(time % (2 * _SHOWN), _SHOWN) / _SHOWN
            image = background.copy()
            x, y = int(270 + 250 * np.sin(2.1 * phase)), int(190 + 170 * np.cos(1.3 * phase))
            image[y : y + 100, x : x + 100] = (30, 60 + 30 * (int(phase) % 6), 220)
            yield Frame(time, image)
