"""Images as JPEG."""

from __future__ import annotations

import io

import PIL.Image

from ..source import Image


def encode_jpeg(image: Image, most_width: int, quality: int = 75) -> bytes:
    """Return an image, uint8 [height, width, 3] BGR, as a JPEG at most `most_width` pixels wide."""
    height, width = image.shape[:2]
    picture = PIL.Image.frombuffer("RGB", (width, height), image.tobytes(), "raw", "BGR", 0, 1)
    if width > most_width:
        size = (most_width, max(1, round(height * most_width / width)))
        picture = picture.resize(size, PIL.Image.Resampling.BILINEAR, reducing_gap=2.0)
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=quality)
    return stream.getvalue()
