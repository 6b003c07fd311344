"""Converts a decoded picture to an image as a player shows it: square pixels, upright, BGR."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from ..source import Image
from .pyav import MOST_PIXELS, import_av


class PictureConverter:
    """Converts the pictures of one stream to images. May be shared by threads, of which none waits for another.

    Args:
        like: returns the picture whose display matrix is used for all; None: the first one.
    """

    def __init__(self, like: Callable[[], Any] = lambda: None) -> None:
        self._like = like
        self._scaler = import_av().video.reformatter.VideoReformatter()
        self._scaling, self._first = threading.Lock(), threading.Lock()
        self._matrix: npt.NDArray[np.int64] | None = None
        self._has_matrix: bool | None = None  # None: unknown before the first picture

    def to_bgr(self, picture: Any, pixel_aspect: float = 1.0) -> Image:
        """Return an av.VideoFrame as uint8 [height, width, 3], BGR.

        Its width is changed if its pixels are not square: `pixel_aspect` is their width by their height. The display
        matrix of the first picture, with which phones rotate or mirror a video, is applied in quarter turns.
        """
        width, height = max(1, round(picture.width * pixel_aspect)), picture.height
        if pixel_aspect > 1 and width * height > MOST_PIXELS:  # square pixels by less height in place of more width
            width, height = picture.width, max(1, round(picture.height / pixel_aspect))
        matrix = self._matrix_of(picture)
        alone = self._scaling.acquire(blocking=False)
        try:
            scaler = self._scaler if alone else import_av().video.reformatter.VideoReformatter()
            scaled = scaler.reformat(picture, width=width, height=height, format="bgr24", interpolation="BICUBIC")
        finally:
            if alone:
                self._scaling.release()
        image: Image = scaled.to_ndarray()
        return image if matrix is None else _displayed(image, matrix)

    def _matrix_of(self, picture: Any) -> npt.NDArray[np.int64] | None:
        with self._first:
            if self._has_matrix is None:
                self._matrix = _display_matrix(self._like() or picture)
                self._has_matrix = self._matrix is not None
            return self._matrix


def _display_matrix(picture: Any) -> npt.NDArray[np.int64] | None:
    """Return int64 [3, 3], or None. Reading a picture's side data in PyAV creates a reference cycle, which keeps its
    pixels in memory until garbage collection; so do it rarely."""
    data = picture.side_data.get("DISPLAYMATRIX")
    return None if data is None else np.frombuffer(bytes(data), np.int32).astype(np.int64).reshape(3, 3)


def _displayed(image: Image, matrix: npt.NDArray[np.int64]) -> Image:
    """Apply a display matrix: the pixel at (x, y) is shown at (x, y, 1) @ matrix (ISO/IEC 14496-12, 6.2.2)."""
    (x_by_x, y_by_x), (x_by_y, y_by_y) = matrix[:2, :2]
    if abs(y_by_x) + abs(x_by_y) > abs(x_by_x) + abs(y_by_y):  # x becomes y
        image, x_sign, y_sign = image.transpose(1, 0, 2), x_by_y, y_by_x
    else:
        x_sign, y_sign = x_by_x, y_by_y
    return np.ascontiguousarray(image[:: -1 if y_sign < 0 else 1, :: -1 if x_sign < 0 else 1])
