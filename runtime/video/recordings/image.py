"""Images: pixels of a file as a viewer shows them, the time it was taken, and JPEG encoding."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageOps

from vlj_edge.errors import VljEdgeError

from ..source import Image

_EXIF_IFD, _DATE_TIME, _DIGITISED, _CHANGED = 0x8769, 36867, 36868, 306
_FRACTION, _ZONE = 37521, 36881  # of the second, and from UTC

warnings.filterwarnings("ignore", module=r"PIL\.")  # about large images, and about metadata that is not used


def read_image(path: Path) -> Image:
    """Return the pixels of an image file, uint8 [height, width, 3], BGR: upright by its EXIF orientation, 16 bits
    scaled to 8, grey, palettes and CMYK converted, transparency left out.

    Raises:
        VljEdgeError: it cannot be read.
    """
    try:
        with PIL.Image.open(path) as picture:
            upright = PIL.ImageOps.exif_transpose(picture) or picture
            return np.ascontiguousarray(_rgb(upright)[..., ::-1])
    except Exception as error:  # Pillow raises many types of errors for damaged files
        raise _unreadable(path, error) from None


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


def encode_png(grey: npt.NDArray[np.uint8]) -> bytes:
    """Return a grey image, uint8 [height, width], as a PNG."""
    stream = io.BytesIO()
    PIL.Image.fromarray(grey).save(stream, "PNG")
    return stream.getvalue()


def picture_sizes(paths: Iterable[Path]) -> set[tuple[int, int]]:
    """Return the widths and heights of image files, from their headers; those that cannot be read are left out."""
    found = set()
    for path in paths:
        with suppress(Exception), PIL.Image.open(path) as picture:  # of many kinds; read_image() reports them
            found.add(picture.size)
    return found


def is_animated_png(path: Path) -> bool:
    """Return whether an image file is an animated PNG, which FFmpeg reads as a video.

    Raises:
        VljEdgeError: it is an animated WebP, which neither FFmpeg nor this package reads.
    """
    try:
        with PIL.Image.open(path) as picture:
            form = picture.format if getattr(picture, "is_animated", False) else None
    except Exception:  # read_image() reports it
        return False
    if form == "WEBP":
        raise VljEdgeError(f"{path} is an animated WebP, of which only the first picture can be read: save it as GIF")
    return form == "PNG"


def image_time(path: Path, origin: str) -> float | None:
    """Return when an image was taken, seconds since 1970; None if the file cannot be read.

    Args:
        origin: "file", its modification time, or "exif", what the camera wrote.

    Raises:
        VljEdgeError: the camera wrote none.
    """
    try:
        if origin == "file":
            return path.stat().st_mtime
        with PIL.Image.open(path) as picture:
            exif = picture.getexif()
            time_text = dict(exif.get_ifd(_EXIF_IFD))
    except Exception:  # see read_image()
        return None
    text = time_text.get(_DATE_TIME) or time_text.get(_DIGITISED) or exif.get(_CHANGED)
    try:
        time = datetime.strptime(_plain(text), "%Y:%m:%d %H:%M:%S").replace(tzinfo=timezone.utc).timestamp()
    except ValueError:
        raise VljEdgeError(
            f"{path} has no time in its EXIF data: take the times of the files, or give a rate"
        ) from None
    fraction, zone = _plain(time_text.get(_FRACTION)), _plain(time_text.get(_ZONE))
    if fraction.isdecimal():
        time += float(f"0.{fraction}")
    try:
        offset = datetime.strptime(zone, "%z").utcoffset()
    except ValueError:  # none
        return time
    return time - offset.total_seconds() if offset is not None else time


def _rgb(picture: PIL.Image.Image) -> Image:
    if picture.mode == "F":
        raise ValueError("its pixels are fractions")
    if picture.mode.startswith("I"):  # 16 bits of grey, which convert() would clip
        grey = np.clip(np.asarray(picture).astype(np.int64), 0, 0xFFFF)
        return np.repeat(((grey + 128) // 257).astype(np.uint8)[..., None], 3, axis=2)
    return np.asarray(picture.convert("RGB"))


def _plain(text: Any) -> str:
    return text.strip(" \0") if isinstance(text, str) else ""


def _unreadable(path: Path, error: Exception) -> VljEdgeError:
    why = "it is damaged or in another format" if isinstance(error, PIL.UnidentifiedImageError) else str(error)
    return VljEdgeError(f"{path} cannot be read as an image ({why.strip() or 'damaged'}): remove it, or save it again")
