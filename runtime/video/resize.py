"""Resizing a part of a frame with Pillow's filters, antialiased, to 8 bits.

The crate fast_image_resize computes them with vector instructions, in a fifth of Pillow's time (benchmarks/resize.py).
Its package has no wheels for Linux on Arm; where it is not installed, Pillow resizes. Both round after each of their
two passes, with weights of their own precision, so that few values differ, by one level of 255.
"""

from __future__ import annotations

import importlib
from functools import cache
from math import ceil, floor
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]
Box = tuple[float, float, float, float]  # left, top, right, bottom, in pixels

_PILLOW = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
_FAST = {"bilinear": "bilinear", "bicubic": "catmull_rom"}  # cubic with a = -0.5, as Pillow's
_REACH = {"bilinear": 1, "bicubic": 2}  # source pixels to each side, at the target's scale, that a value depends on


def resize(image: Pixels, box: Box, side: int, resample: str) -> Pixels:
    """Return a part of an image as uint8 [side, side, 3].

    Args:
        image: uint8 [height, width, 3].
        box: the part; it lies within the image.
        resample: "bilinear" or "bicubic".
    """
    fast = _fast_image_resize()
    return resize_with_pillow(image, box, side, resample) if fast is None else _fast(fast, image, box, side, resample)


def resize_with_pillow(image: Pixels, box: Box, side: int, resample: str) -> Pixels:
    """The same by Pillow."""
    return np.asarray(Image.fromarray(image).resize((side, side), _PILLOW[resample], box=box))


def _fast(fast: Any, image: Pixels, box: Box, side: int, resample: str) -> Pixels:
    left, top, right, bottom = box
    x, x_end = _needed(left, right, side, image.shape[1], _REACH[resample])
    y, y_end = _needed(top, bottom, side, image.shape[0], _REACH[resample])
    width, height, rgb = x_end - x, y_end - y, fast.PixelType.U8x3
    filtered = fast.ResizeAlg.convolution(getattr(fast.FilterType, _FAST[resample]))
    resizer = fast.Resizer()  # one a call: no two threads may use one at once
    # It would resize columns first. Rounding after rows first is what Pillow does and the GPU's kernel.
    part = fast.ImageData(width, height, rgb, image[y:y_end, x:x_end].tobytes())
    narrow, small = fast.ImageData(side, height, rgb), fast.ImageData(side, side, rgb)
    across = fast.CropBox(left - x, 0, min(right, x_end) - left, height)
    down = fast.CropBox(0, top - y, side, min(bottom, y_end) - top)
    resizer.resize(part, narrow, fast.ResizeOptions(resize_alg=filtered, crop_box=across))
    resizer.resize(narrow, small, fast.ResizeOptions(resize_alg=filtered, crop_box=down))
    return np.frombuffer(small.get_buffer(), np.uint8).reshape(side, side, 3)


def _needed(first: float, last: float, side: int, size: int, reach: int) -> tuple[int, int]:
    """Return where the pixels begin and end that [first, last), resized to `side` pixels, depends on."""
    margin = reach * max(1.0, (last - first) / side) + 1
    return max(0, floor(first - margin)), min(size, ceil(last + margin))


@cache
def _fast_image_resize() -> Any:
    """Return the module; None: it is not installed."""
    try:
        return importlib.import_module("cykooz_resizer")
    except ImportError:
        return None
