"""Small pictures of moments."""

from __future__ import annotations

from ..video.recordings.image import encode_jpeg
from ..video.source import Image

MOST_BYTES = 8192
_SIZES = (
    (160, 70),
    (160, 40),
    (96, 40),
    (64, 30),
)  # of the longer side, and JPEG quality: the first that is small enough


def thumbnail(image: Image) -> bytes:
    """Return an image, uint8 [height, width, 3] BGR, as a JPEG of at most 160 x 160 pixels and 8 kB."""
    height, width = image.shape[:2]
    step = max(1, max(height, width) // 640)
    coarse = image[::step, ::step]  # of a large image; the rest is averaged
    for side, quality in _SIZES:
        fitting = max(1, side * coarse.shape[1] // max(coarse.shape[:2]))
        found = encode_jpeg(coarse, fitting, quality)
        if len(found) <= MOST_BYTES:
            break
    return found
