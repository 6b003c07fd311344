"""Pictures that another program writes to a pipe: JPEGs one after the other (MJPEG), or raw ones of one size."""

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
# An end mark may also be part of a thumbnail: what ends a picture is one before the next picture, or before the
# boundary that multipart streams have between them.
_END = re.compile(rb"\xff\xd9(?=\xff\xd8\xff|\r?\n?--)")
_LONGEST_MARK = 7
_MOST_BYTES = 64_000_000  # of one JPEG


class StdinSource(Source):
    """Frames from a file descriptor.

    Args:
        size: width and height of raw pictures; None: JPEGs.
        rate: frames a second, which gives their times; None: they come when they come, as from a camera.
        format: of raw pictures: bgr24, rgb24, gray or yuv420p.

    Attributes:
        bad: pictures that could not be decoded; they are passed over.

    Raises:
        VljEdgeError: no picture comes.
    """

    def __init__(self, descriptor: int, size: tuple[int, int] | None, rate: float | None, format: str) -> None:
        if format not in FORMATS:
            raise VljEdgeError(f"no format of raw pictures is called '{format}': give one of {', '.join(FORMATS)}")
        self._descriptor, self._size, self._rate, self._format = descriptor, size, rate, format
        self.live, self.period, self.bad = rate is None, 1 / (rate or 25.0), 0
        self._buffer = bytearray()
        self._stop = threading.Event()
        self._pictures = self._raw() if size is not None else self._jpegs()
        first = next(self._pictures, None)
        if first is None:
            raise VljEdgeError(
                "stdin gives no picture: write JPEGs to it, such as ffmpeg -i VIDEO -f mjpeg - | vlj-edge narrate -"
            )
        self._first = first

    def frames(self) -> Iterator[Frame]:
        """See Source."""
        origin = time.monotonic()
        yield Frame(0.0, self._first)
        for number, image in enumerate(self._pictures, 1):
            yield Frame(number / self._rate if self._rate else time.monotonic() - origin, image)

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
            start = self._find(_START, 0)
            if start < 0:
                return
            del self._buffer[:start]
            last = self._find(_END, 0)
            end = last + 2 if last >= 0 else len(self._buffer)
            raw = bytes(self._buffer[:end])
            del self._buffer[:end]
            try:
                with PIL.Image.open(io.BytesIO(raw), formats=["JPEG"]) as picture:
                    yield np.ascontiguousarray(np.asarray(picture.convert("RGB"))[..., ::-1])
            except (OSError, SyntaxError, ValueError):  # what Pillow raises for a damaged one
                self.bad += 1

    def _find(self, mark: re.Pattern[bytes], at: int) -> int:
        """Where a mark is, reading on until it comes; -1: the pipe has ended."""
        while (found := mark.search(self._buffer, at)) is None:
            at = max(at, len(self._buffer) - _LONGEST_MARK)
            if len(self._buffer) > _MOST_BYTES:
                raise VljEdgeError("stdin gives no JPEGs: write MJPEG to it, or name size and format of raw pictures")
            if not self._fill(len(self._buffer) + 1):
                return -1
        return found.start()

    def _fill(self, count: int) -> bool:
        """Read until so many bytes are there; False: the pipe has ended before, or this was closed."""
        while len(self._buffer) < count:
            if self._stop.is_set():
                return False
            if not select.select([self._descriptor], [], [], 0.2)[0]:
                continue
            raw = os.read(self._descriptor, 1 << 20)
            if not raw:
                return False
            self._buffer += raw
        return True
