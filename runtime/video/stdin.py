"""Frames that another program writes to a pipe: JPEGs one after the other (MJPEG), or raw frames of one size."""

from __future__ import annotations

import io
import os
import re
import select
import threading
import time
from collections.abc import Iterator

import numpy as np
import PIL.Image

from vlj_edge.errors import VljEdgeError

from .opencv import import_opencv
from .source import Frame, Image, Source

FORMATS = {"bgr24": 3.0, "rgb24": 3.0, "gray": 1.0, "yuv420p": 1.5}  # bytes a pixel, by FFmpeg's names
_START = re.compile(rb"\xff\xd8\xff")
# The thumbnail in a JPEG has an end mark too. The JPEG's own is the one before the next JPEG, or before the boundary of
# a multipart stream.
_END = re.compile(rb"\xff\xd9(?=\xff\xd8\xff|\r?\n?--)")
_LONGEST_MARK = 7
_MOST_BYTES = 64_000_000  # of one JPEG
_POLL = 0.1  # seconds between two looks at whether the source was interrupted


class StdinSource(Source):
    """Frames from a file descriptor, which stays open.

    Args:
        size: width and height of raw frames; None for JPEGs.
        rate: frames a second, from which their times follow; None for a live source, whose times are those of arrival.
        format: pixel format of raw frames: bgr24, rgb24, gray or yuv420p.

    Attributes:
        bad: number of frames that could not be decoded and were skipped.

    Raises:
        VljEdgeError: the pipe ends before a first frame, or the arguments do not fit.
    """

    def __init__(self, descriptor: int, size: tuple[int, int] | None, rate: float | None, format: str) -> None:
        if format not in FORMATS:
            raise VljEdgeError(f"no format of raw pictures is called '{format}': give one of {', '.join(FORMATS)}")
        self._descriptor, self._size, self._rate, self._format = descriptor, size, rate, format
        self.live, self.period, self.bad = rate is None, 1 / (rate or 25.0), 0
        self._buffer = bytearray()
        self._stop = threading.Event()
        self._images = self._raw() if size is not None else self._jpegs()
        first = next(self._images, None)
        if first is None:
            raise VljEdgeError(
                "stdin gives no picture: write JPEGs to it, such as ffmpeg -i VIDEO -f mjpeg - | vlj-edge narrate -"
            )
        self._first = first

    def frames(self) -> Iterator[Frame]:
        """See Source."""
        origin = time.monotonic()
        if not self._stop.is_set():
            yield Frame(0.0, self._first)
        for number, image in enumerate(self._images, 1):
            if self._stop.is_set():
                return
            yield Frame(number / self._rate if self._rate else time.monotonic() - origin, image)

    def interrupt(self) -> None:
        """See Source."""
        self._stop.set()

    def close(self) -> None:
        """See Source."""
        self._stop.set()

    def _raw(self) -> Iterator[Image]:
        assert self._size is not None
        width, height = self._size
        if self._format == "yuv420p" and (width % 2 or height % 2):
            raise VljEdgeError(f"yuv420p pictures have even sides, not {width}x{height}: check the size")
        count = int(width * height * FORMATS[self._format])
        while self._fill(count):
            raw = np.frombuffer(bytes(self._buffer[:count]), np.uint8)
            del self._buffer[:count]
            yield self._bgr(raw, width, height)

    def _bgr(self, raw: Image, width: int, height: int) -> Image:
        cv2 = import_opencv()
        if self._format == "bgr24":
            return raw.reshape(height, width, 3)
        if self._format == "yuv420p":
            image: Image = cv2.cvtColor(raw.reshape(height * 3 // 2, width), cv2.COLOR_YUV2BGR_I420)
            return image
        if self._format == "gray":
            return np.repeat(raw.reshape(height, width, 1), 3, axis=2)
        return np.ascontiguousarray(raw.reshape(height, width, 3)[..., ::-1])

    def _jpegs(self) -> Iterator[Image]:
        while True:
            start = self._find(_START)
            if start < 0:
                return
            del self._buffer[:start]
            last = self._find(_END)
            if self._stop.is_set():
                return
            end = last + 2 if last >= 0 else len(self._buffer)
            raw = bytes(self._buffer[:end])
            del self._buffer[:end]
            try:
                with PIL.Image.open(io.BytesIO(raw), formats=["JPEG"]) as picture:
                    yield np.ascontiguousarray(np.asarray(picture.convert("RGB"))[..., ::-1])
            except (OSError, SyntaxError, ValueError):  # raised by Pillow for damaged data
                self.bad += 1

    def _find(self, mark: re.Pattern[bytes]) -> int:
        """Read until the buffer holds a mark and return its index; -1 if the pipe ended or this was interrupted."""
        at = 0
        while (found := mark.search(self._buffer, at)) is None:
            at = max(at, len(self._buffer) - _LONGEST_MARK)
            if len(self._buffer) > _MOST_BYTES:
                raise VljEdgeError("stdin gives no JPEGs: write MJPEG to it, or name size and format of raw pictures")
            if not self._fill(len(self._buffer) + 1):
                return -1
        return found.start()

    def _fill(self, count: int) -> bool:
        """Read until the buffer holds `count` bytes; False if the pipe ended or this was interrupted before."""
        while len(self._buffer) < count:
            if self._stop.is_set():
                return False
            if not select.select([self._descriptor], [], [], _POLL)[0]:
                continue
            raw = os.read(self._descriptor, 1 << 20)
            if not raw:
                return False
            self._buffer += raw
        return True
