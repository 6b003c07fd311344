"""Small pictures of moments, and how they are taken from a video while it is encoded."""

from __future__ import annotations

import io
import threading
from collections import deque
from collections.abc import Iterator
from functools import partial

import numpy as np
import PIL.Image

from ..video.source import Frame, Image, Source, WrappedSource

MOST_BYTES = 8192
_SIZES = ((128, 60), (128, 30), (64, 30))  # longer side and JPEG quality: the first that is small enough
_COARSE = 256  # pixels of the longer side, at least, that are left of a larger picture
_KEPT = 64  # pictures: more than lie between one that is decoded and the window that is being encoded


def thumbnail(image: Image) -> bytes:
    """Return an image, uint8 [height, width, 3] BGR, as a JPEG of at most 128 x 128 pixels and 8 kB."""
    whole = PIL.Image.fromarray(np.ascontiguousarray(_coarse(image)[..., ::-1]))
    for side, quality in _SIZES:
        picture, jpeg = whole.copy(), io.BytesIO()
        picture.thumbnail((side, side), PIL.Image.Resampling.BILINEAR)
        picture.save(jpeg, "JPEG", quality=quality)
        if jpeg.tell() <= MOST_BYTES:
            break
    return jpeg.getvalue()


class SmallPictures(WrappedSource):
    """A source that keeps small copies of its latest pictures, of those that are decoded anyway."""

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self.duration = source.duration
        self._kept: deque[tuple[float, Image]] = deque(maxlen=_KEPT)
        self._lock = threading.Lock()

    def frames(self) -> Iterator[Frame]:
        """See Source."""
        for frame in self._source:
            self.period = self._source.period
            yield Frame(frame.time, partial(self._keep, frame), frame.until_next)
        self.incomplete = self._source.incomplete

    def thumbnail_at(self, time: float) -> bytes | None:
        """Return a thumbnail of the kept picture whose time (seconds) is the nearest; None if there is none."""
        with self._lock:
            nearest = min(self._kept, key=lambda kept: abs(kept[0] - time), default=None)
        return None if nearest is None else thumbnail(nearest[1])

    def _keep(self, frame: Frame) -> Image:
        image = frame.image
        small = _coarse(image).copy()
        with self._lock:
            self._kept.append((frame.time, small))
        return image


def _coarse(image: Image) -> Image:
    """Return every second, third ... pixel of a large image."""
    step = max(1, max(image.shape[:2]) // _COARSE)
    return image[::step, ::step]
