"""Image files in order, as the frames of a video."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from vlj_edge.errors import VljEdgeError

from .opencv import import_opencv
from .source import Frame, Image, Source

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".webp")


def natural_sort_key(path: Path) -> list[tuple[int, str]]:
    """Return a key that sorts frame9 before frame10."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"([0-9]+)", path.name)]


class ImageFiles(Source):
    """Image files as the frames of a video, at a fixed frame rate.

    Raises:
        VljEdgeError: the first file cannot be read.
    """

    rereadable = True

    def __init__(self, paths: Sequence[Path], frames_per_second: float) -> None:
        self._cv2 = import_opencv()
        self._paths, self._stop = paths, threading.Event()
        self.period = 1 / frames_per_second
        if self._read(paths[0]) is None:
            raise VljEdgeError(_image_error(paths[0]))

    def frames(self) -> Iterator[Frame]:
        """See Source."""
        for index, path in enumerate(self._paths):
            if self._stop.is_set():
                return
            image = self._read(path)
            if image is None:
                self.incomplete = _image_error(path)
                return
            yield Frame(index * self.period, image)

    def interrupt(self) -> None:
        """See Source."""
        self._stop.set()

    def close(self) -> None:
        """See Source."""
        self._stop.set()

    def _read(self, path: Path) -> Image | None:
        try:
            image: Image | None = self._cv2.imread(str(path), self._cv2.IMREAD_COLOR)
        except self._cv2.error:  # larger than OpenCV's limit
            return None
        return image


def _image_error(path: Path) -> str:
    return f"{path} cannot be read as an image: remove it, or save it again"
