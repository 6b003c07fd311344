"""From frames to the encoder's input, in two steps with the scene gate in between.

`crop` resizes and crops a frame to 8 bits, once for each sampled frame. `fill` normalises into the encoder's own input
buffer, only for clips that are encoded, and only those frames that the clip before did not contain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from vlj_edge.errors import VljEdgeError
from vlj_edge.presets import Preprocess

from ..engines.base import Array
from .resize import resize

THUMBNAIL = 32  # pixels a side
_LUMA_BGR = np.array((0.114, 0.587, 0.299), np.float32) / np.float32(255)  # ITU-R BT.601


@dataclass(frozen=True, eq=False)
class CroppedFrame:
    """One sampled frame for the encoder and the scene gate. Compared by identity.

    Attributes:
        rgb: uint8 [3, crop, crop].
        luminance: float32 [THUMBNAIL, THUMBNAIL], 0..1: the crop's luma, averaged by area.
    """

    rgb: npt.NDArray[np.uint8]
    luminance: npt.NDArray[np.float32]


def crop_and_resize(image: npt.NDArray[np.uint8], preprocess: Preprocess) -> CroppedFrame:
    """Resize (antialiased), crop the centre, and compute the luminance thumbnail.

    Args:
        image: uint8 [height, width, 3], BGR.

    Raises:
        VljEdgeError: the image has another shape or type.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise VljEdgeError(f"a frame is {image.dtype}{list(image.shape)}: give uint8 [height, width, 3], BGR")
    height, width = image.shape[:2]
    # BGR taken for RGB: the order does not matter in resizing, and is cheaper to swap in the small crop.
    crop = resize(image, crop_box(width, height, preprocess), preprocess.crop, preprocess.resample)
    cells = np.asarray(Image.fromarray(crop).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX))
    rgb = np.ascontiguousarray(crop[:, :, ::-1].transpose(2, 0, 1))
    return CroppedFrame(rgb, cells.astype(np.float32) @ _LUMA_BGR)


def crop_box(width: int, height: int, preprocess: Preprocess) -> tuple[float, float, float, float]:
    """Return the part of a frame that resizing and then cropping keeps: left, top, right, bottom, in source pixels.

    Rounds as torchvision does: Resize truncates the long side to an integer, CenterCrop rounds its corner; or as the
    processors of transformers, which truncate that too.
    """
    if not preprocess.keep_aspect:
        return 0.0, 0.0, float(width), float(height)
    short, floors = preprocess.short_side, preprocess.corner == "floor"
    wide = (int(short * width / height), short) if width >= height else (short, int(short * height / width))
    left, top = ((side - preprocess.crop) // 2 if floors else round((side - preprocess.crop) / 2) for side in wide)
    x, y = width / wide[0], height / wide[1]
    return left * x, top * y, (left + preprocess.crop) * x, (top + preprocess.crop) * y


def normalisation(preprocess: Preprocess) -> npt.NDArray[np.float32]:
    """Return (x / 255 - mean) / std as x * scale + bias: float32 [6], the scales of R, G and B, then their biases."""
    std, mean = np.array(preprocess.std, np.float32), np.array(preprocess.mean, np.float32)
    return np.concatenate((1 / (255 * std), -mean / std))


class SampledFrame(Protocol):
    """The part of a sampled frame that the gates use. Compared by identity."""

    @property
    def luminance(self) -> npt.NDArray[np.float32]:
        """float32 [THUMBNAIL, THUMBNAIL], 0..1: the crop's luma, averaged by area."""


class Preprocessor(Protocol):
    """Crops frames and fills the encoder's input with them: on the CPU (below), or on a GPU (engines/tensorrt)."""

    def crop(self, image: npt.NDArray[np.uint8]) -> SampledFrame:
        """Resize and crop a frame, uint8 [height, width, 3], BGR."""

    def fill(self, frames: Sequence[Any]) -> None:
        """Make the encoder's input hold these frames, in order; crop() of this object returned them."""


class CpuPreprocessor:
    """Fills an encoder's `pixels` input.

    Args:
        pixels: the input buffer, float [1, frames, 3, crop, crop].
    """

    def __init__(self, pixels: Array, preprocess: Preprocess) -> None:
        self._slots = pixels[0]
        self._held: list[CroppedFrame | None] = [None] * len(self._slots)  # the frame in each slot
        self._preprocess = preprocess
        self._scale, self._bias = normalisation(preprocess).reshape(2, 3, 1, 1)
        self._scratch = np.empty(self._slots.shape[1:], np.float32)

    def crop(self, image: npt.NDArray[np.uint8]) -> CroppedFrame:
        """See Preprocessor."""
        return crop_and_resize(image, self._preprocess)

    def fill(self, frames: Sequence[CroppedFrame]) -> None:
        """See Preprocessor. Frames that the last clip contained are moved, the others normalised."""
        held = self._held
        shift = next((slot for slot, frame in enumerate(held) if frame is frames[0]), 0)
        for slot in range(len(held) - shift if shift else 0):
            # frame by frame, because numpy would buffer an overlapping block as a whole
            self._slots[slot] = self._slots[slot + shift]
            held[slot] = held[slot + shift]
        for slot, frame in enumerate(frames):
            if held[slot] is not frame:
                np.multiply(frame.rgb, self._scale, out=self._scratch, dtype=np.float32)
                np.add(self._scratch, self._bias, out=self._slots[slot], casting="same_kind")
                held[slot] = frame
