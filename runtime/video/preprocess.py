"""Frames to encoder input, in two steps, because the scene gate stands between them.

`see` crops and resizes a frame to 8 bits, once for every sampled frame. `ClipPixels.fill` normalises into the encoder's
own input, only for clips that are encoded, and only the frames that the clip before did not hold already.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from vlj_edge.presets import Preprocess

from ..engines.base import Array

THUMBNAIL = 32  # cells a side
_LUMA_BGR = np.array((0.114, 0.587, 0.299), np.float32) / np.float32(255)  # ITU-R BT.601


@dataclass(frozen=True, eq=False)
class CroppedFrame:
    """One sampled frame as the encoder and the scene gate see it. Compared by identity.

    Attributes:
        rgb: uint8 [3, crop, crop].
        luminance: float32 [THUMBNAIL, THUMBNAIL], 0..1, averaged by area.
    """

    rgb: npt.NDArray[np.uint8]
    luminance: npt.NDArray[np.float32]


def crop_and_resize(image: npt.NDArray[np.uint8], preprocess: Preprocess) -> CroppedFrame:
    """Resize the short side (bilinear, antialiased), crop the centre, and make the thumbnail.

    Args:
        image: uint8 [height, width, 3], BGR as OpenCV gives it.
    """
    height, width = image.shape[:2]
    size = (preprocess.crop, preprocess.crop)
    # Pillow is told that BGR is RGB: resizing does not care, and swapping 96 x 96 pixels is cheaper than a whole frame.
    whole = Image.fromarray(image)
    crop = whole.resize(size, Image.Resampling.BILINEAR, box=crop_box(width, height, preprocess))
    cells = np.asarray(crop.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX))
    rgb = np.ascontiguousarray(np.asarray(crop)[:, :, ::-1].transpose(2, 0, 1))
    return CroppedFrame(rgb, cells.astype(np.float32) @ _LUMA_BGR)


def crop_box(width: int, height: int, preprocess: Preprocess) -> tuple[float, float, float, float]:
    """The part of a frame (left, top, right, bottom; source pixels) that resizing and then cropping would keep.

    Rounding is torchvision's: Resize cuts the long side to an integer, CenterCrop rounds its corner.
    """
    short = preprocess.short_side
    wide = (int(short * width / height), short) if width >= height else (short, int(short * height / width))
    left, top = (round((side - preprocess.crop) / 2) for side in wide)
    x, y = width / wide[0], height / wide[1]
    return left * x, top * y, (left + preprocess.crop) * x, (top + preprocess.crop) * y


def normalisation(preprocess: Preprocess) -> npt.NDArray[np.float32]:
    """(x / 255 - mean) / std as x * scale + bias: float32 [6], the scales of R, G and B, then their biases."""
    std, mean = np.array(preprocess.std, np.float32), np.array(preprocess.mean, np.float32)
    return np.concatenate((1 / (255 * std), -mean / std))


class SampledFrame(Protocol):
    """A sampled frame as the gates see it. Compared by identity."""

    @property
    def luminance(self) -> npt.NDArray[np.float32]:
        """float32 [THUMBNAIL, THUMBNAIL], 0..1, averaged by area."""


class Preprocessor(Protocol):
    """What sees frames and fills the encoder's input with them: on the processor (below) or on the card."""

    def see(self, image: npt.NDArray[np.uint8]) -> SampledFrame:
        """A frame, uint8 [height, width, 3], BGR, resized and cropped."""

    def fill(self, pictures: Sequence[Any]) -> None:
        """Make the encoder's input hold these, which came from its own see()."""


class CpuPreprocessor:
    """The encoder's `pixels` input [1, frames, 3, crop, crop] and which picture each of its slots holds."""

    def __init__(self, pixels: Array, preprocess: Preprocess) -> None:
        self._slots = pixels[0]
        self._held: list[CroppedFrame | None] = [None] * len(self._slots)
        self._preprocess = preprocess
        self._scale, self._bias = normalisation(preprocess).reshape(2, 3, 1, 1)
        self._scratch = np.empty(self._slots.shape[1:], np.float32)

    def see(self, image: npt.NDArray[np.uint8]) -> CroppedFrame:
        """See see()."""
        return crop_and_resize(image, self._preprocess)

    def fill(self, pictures: Sequence[CroppedFrame]) -> None:
        """Make the slots hold `pictures`, in order. What overlaps with the last clip is moved, the rest normalised."""
        held = self._held
        shift = next((slot for slot, picture in enumerate(held) if picture is pictures[0]), 0)
        for slot in range(len(held) - shift if shift else 0):
            # frame by frame, because numpy copies an overlapping block twice
            self._slots[slot] = self._slots[slot + shift]
            held[slot] = held[slot + shift]
        for slot, picture in enumerate(pictures):
            if held[slot] is not picture:
                np.multiply(picture.rgb, self._scale, out=self._scratch, dtype=np.float32)
                np.add(self._scratch, self._bias, out=self._slots[slot], casting="same_kind")
                held[slot] = picture
