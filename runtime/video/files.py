"""Video files, and image files in order."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

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


class VideoFile(Source):
    """A video file, decoded by OpenCV. Every frame is read; none is dropped for being late.

    Converting a frame to BGR takes as long as decoding it, and most frames are never sampled. So only `Frame.image`
    converts: at once for the newest frame, while an older one is decoded again by a second capture.

    Args:
        path: of the file, or a URL that FFmpeg reads.
        shown: its name in messages; the path if None.

    Raises:
        VljEdgeError: the file has no frame that can be read.
    """

    def __init__(self, path: Path | str, shown: str | None = None) -> None:
        cv2 = import_opencv()
        self._path, self._shown = path, shown or str(path)
        self._position, self._count = cv2.CAP_PROP_POS_MSEC, cv2.CAP_PROP_FRAME_COUNT
        self._stop, self._closed = threading.Event(), False
        self._capture = cv2.VideoCapture(str(path))
        self._grabbed = 0  # number of the frame that the capture can convert; -1: none
        self._second: Any = None  # the second capture
        self._second_grabbed = 0
        # Held in every call of a capture: one that is released under another thread's read aborts the process.
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
        if not self._stop.is_set():
            yield Frame(now, image)
        while (position := self._grab()) is not None:
            # The file's own time wherever it moves on; some files have none, or start again where they were joined.
            now = position - origin if 0 < position - origin - now < 3600 else now + self.period
            yield Frame(now, partial(self._image, self._grabbed))
        with self._locked():
            if self._stop.is_set():
                return
            declared = self._capture.get(self._count) * self.period
        missing = declared - now - self.period
        # Counts are estimates in some containers: only what is beyond their error is a loss.
        if missing > max(0.5, 0.05 * declared):
            self.incomplete = (
                f"{self._shown} breaks off at {now + self.period:.1f} of {declared:.1f} seconds: it is damaged, "
                "copy or record it again"
            )

    def interrupt(self) -> None:
        """See Source. A read that FFmpeg is in, such as of a URL that hangs, goes on in its thread."""
        self._stop.set()

    def close(self) -> None:
        """See Source. The captures are released once the read that is in progress returns.

        Images of frames that were read before can still be asked for: the file is opened again for each.
        """
        self._stop.set()
        self._closed = True
        if self._reading.acquire(timeout=0.5):
            self._unlock()

    def _read(self) -> tuple[float, Image] | None:
        position = self._grab()
        if position is None:
            return None
        good, image = self._capture.retrieve()
        return (position, image) if good else None

    def _grab(self) -> float | None:
        """Decode the next frame and return its time in the file, seconds; None after the last or an interruption."""
        with self._locked():
            good = not self._stop.is_set() and self._capture.grab()
            if not good or self._stop.is_set():
                self._grabbed = -1  # the last frame is gone with it
                return None
            self._grabbed += 1
            return float(self._capture.get(self._position)) / 1000

    def _image(self, number: int) -> Image:
        """Return frame `number` in BGR."""
        with self._locked():
            at_hand = number == self._grabbed and not self._closed
            good, image = self._capture.retrieve() if at_hand else self._read_again(number)
        if not good:
            raise VljEdgeError(
                f"frame {number} of {self._shown} cannot be read: it is damaged, copy or record it again"
            )
        converted: Image = image
        return converted

    def _read_again(self, number: int) -> tuple[bool, Any]:
        if self._second is None or number < self._second_grabbed:
            self._second, self._second_grabbed = import_opencv().VideoCapture(str(self._path)), 0
        while self._second_grabbed < number:
            if not self._second.grab():
                return False, None
            self._second_grabbed += 1
        return self._second.retrieve()  # type: ignore[no-any-return]

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._reading.acquire()
        try:
            yield
        finally:
            self._unlock()

    def _unlock(self) -> None:
        """Release the lock; after close(), the captures as well."""
        try:
            if self._closed:
                self._capture.release()
                self._second = None
        finally:
            self._reading.release()


def _period(frames_per_second: float, otherwise: float) -> float:
    # Containers without a frame rate report a clock rate, such as 90000.
    return 1 / (frames_per_second if 1e-3 < frames_per_second <= 1000 else otherwise)
