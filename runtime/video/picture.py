"""From a decoded picture to an image as a player shows it: square pixels, upright, BGR."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import numpy.typing as npt

from .pyav import import_av
from .source import Image


class PictureConverter:
    """Makes images of pictures. May be shared by threads.

    Args:
        pixel_aspect: width of a pixel by its height. Where it is not 1, the picture's width is changed.
    """

    def __init__(self, pixel_aspect: float = 1.0) -> None:
        self._aspect = pixel_aspect
        self._scaler = import_av().video.reformatter.VideoReformatter()
        self._scaling = threading.Lock()

    def to_bgr(self, picture: Any) -> Image:
        """Return an av.VideoFrame as uint8 [height, width, 3], BGR.

        The display matrix, with which phones rotate or mirror, is applied in quarter turns.
        """
        width = max(1, round(picture.width * self._aspect))
        with self._scaling:
            scaled = self._scaler.reformat(picture, width=width, format="bgr24", interpolation="BICUBIC")
        image: Image = scaled.to_ndarray()
        matrix = picture.side_data.get("DISPLAYMATRIX")
        return image if matrix is None else _displayed(image, np.frombuffer(bytes(matrix), np.int32).reshape(3, 3))


def _displayed(image: Image, matrix: npt.NDArray[np.int32]) -> Image:
    """Apply a display matrix: what is at (x, y) is shown at (x, y, 1) @ matrix (ISO/IEC 14496-12, 6.2.2)."""
    (x_by_x, y_by_x), (x_by_y, y_by_y) = matrix[:2, :2]
    if abs(y_by_x) + abs(x_by_y) > abs(x_by_x) + abs(y_by_y):  # x becomes y
        image, x_sign, y_sign = image.transpose(1, 0, 2), x_by_y, y_by_x
    else:
        x_sign, y_sign = x_by_x, y_by_y
    return np.ascontiguousarray(image[:: -1 if y_sign < 0 else 1, :: -1 if x_sign < 0 else 1])
