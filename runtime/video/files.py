"""What frames come from: the interface of a source, video files, folders of images. uris.py opens them.

Timestamps are seconds from the first frame. What cannot be opened, or has no picture in it, is an error at once. What
breaks off later ends normally with `incomplete` set, so that everything before the break is still narrated.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from vlj_edge.errors import VljEdgeError

from .opencv import import_opencv
from .source import Frame, Image, Source

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".webp")


def natural_order(path: Path) -> list[tuple[int, str]]:
    """A key to sort by: frame9 before frame10."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"([0-9]+)", path.name)]


class ImageFiles(Source):
    """Image files at a steady rate."""

    def __init__(self, paths: Sequence[Path], frames_per_second: float) -> None:
        self._cv2 = import_opencv()
        self._paths = paths
        self.period = 1 / frames_per_second
        if self._read(paths[0]) is None:
            raise VljEdgeError(self._unreadable(paths[0]))

    def frames(self) -> Iterator[Frame]:
        """See Source."""
        for index, path in enumerate(self._paths):
            image = self._read(path)
            if image is None:
                self.incomplete = self._unreadable(path)
                return
            yield Frame(index * self.period, image)

    def _read(self, path: Path) -> Image | None:
        try:
            image: Image | None = self._cv2.imread(str(path), self._cv2.IMREAD_COLOR)
        except self._cv2.error:  # larger than OpenCV's limit
            return None
        return image

    @staticmethod
    def _unreadable(path: Path) -> str:
        return f"{path} cannot be read as an image: remove it, or save it again"


class VideoFile(Source):
    """A video file, decoded by OpenCV. Every frame is read; none is dropped for being late.

    Most frames' pictures are never asked for, and turning one into BGR takes as long as decoding it. So it is done for
    the newest frame when asked; an older one's is read again.
    """

    def __init__(self, path: Path | str, shown: str | None = None) -> None:
        cv2 = import_opencv()
        self._path, self._shown = path, shown or str(path)
        self._position, self._count = cv2.CAP_PROP_POS_MSEC, cv2.CAP_PROP_FRAME_COUNT
        self._capture = cv2.VideoCapture(str(path))
        self._grabbed = 0  # frames; -1: none is at hand
        self._second: Any = None  # the file once more, for pictures that are asked for late
        self._second_grabbed = 0
        self._reading = threading.Lock()
        self.period = _period(self._capture.get(cv2.CAP_PROP_FPS), 25.0)
        first = self._read()
        if first is None:
            self.close()
            raise VljEdgeError(
                f"{self._shown} has no picture that can be read (damaged, sound only, or an unknown format): "
                f"look at it with ffprobe, or convert it with ffmpeg -i {Path(self._shown).name} video.mp4"
            )
        self._first = first

    def frames(self) -> Iterator[Frame]:
        """See Source."""
        origin, image = self._first
        now = 0.0
        yield Frame(now, image)
        while (position := self._grab()) is not None:
            # The file's own time wherever it moves on; some files have none, or start again where they were joined.
            now = position - origin if 0 < position - origin - now < 3600 else now + self.period
            yield Frame(now, partial(self._picture, self._grabbed))
        declared = self._capture.get(self._count) * self.period
        missing = declared - now - self.period
        # Counts are estimates in some containers: only what is beyond their error is a loss.
        if missing > max(0.5, 0.05 * declared):
            self.incomplete = (
                f"{self._shown} breaks off at {now + self.period:.1f} of {declared:.1f} seconds: it is damaged, "
                "copy or record it again"
            )

    def close(self) -> None:
        """See Source."""
        # Releasing a capture under another thread's read aborts the process: then it is left to the process's end.
        if self._reading.acquire(timeout=1.0):
            self._capture.release()
            self._reading.release()

    def _read(self) -> tuple[float, Image] | None:
        position = self._grab()
        if position is None:
            return None
        good, image = self._capture.retrieve()
        return (position, image) if good else None

    def _grab(self) -> float | None:
        """Decode the next frame: its time in the file, seconds."""
        with self._reading:
            if not self._capture.grab():
                self._grabbed = -1  # the last frame is gone with it
                return None
            self._grabbed += 1
            return float(self._capture.get(self._position)) / 1000

    def _picture(self, number: int) -> Image:
        with self._reading:
            good, image = self._capture.retrieve() if number == self._grabbed else self._read_again(number)
        if not good:
            raise VljEdgeError(
                f"frame {number} of {self._shown} cannot be read: it is damaged, copy or record it again"
            )
        picture: Image = image
        return picture

    def _read_again(self, number: int) -> tuple[bool, Any]:
        if self._second is None or number < self._second_grabbed:
            self._second, self._second_grabbed = import_opencv().VideoCapture(str(self._path)), 0
        while self._second_grabbed < number:
            if not self._second.grab():
                return False, None
            self._second_grabbed += 1
        return self._second.retrieve()  # type: ignore[no-any-return]


def _period(frames_per_second: float, otherwise: float) -> float:
    # 90000 and the like are clock rates that a container gives for want of a frame rate
    return 1 / (frames_per_second if 1e-3 < frames_per_second <= 1000 else otherwise)
