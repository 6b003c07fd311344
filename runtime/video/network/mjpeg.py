"""MJPEG over HTTP: JPEGs one after another, whatever is between them.

Cameras disagree on boundaries, Content-Type and Content-Length of the parts, so the JPEGs are found by their own
structure, which also returns each as soon as its last byte has arrived.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

from ..cameras.reader_output import ReaderOutput
from .http_body import HttpBody
from .snapshots import decode_picture

_START = b"\xff\xd8\xff"
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # in compressed data FF 00 is a byte, FF D0 to D7 are restarts
_NO_LENGTH = (0x01, *range(0xD0, 0xD8))  # markers without a segment
_END, _NEXT = 0xD9, 0xD8
_LONGEST = 64_000_000  # bytes of one JPEG


def read_mjpeg(body: HttpBody, output: ReaderOutput) -> None:
    """Publish the pictures that are due, until the stream ends.

    Raises:
        OSError: the connection broke off, or the content is no MJPEG.
    """
    splitter, bad, any_jpeg = JpegSplitter(), 0, False
    output.send("open 0")
    while data := body.read(1 << 16):
        for jpeg in splitter.split(data):
            now, any_jpeg = time.monotonic(), True
            if not output.is_due(now):
                continue
            try:
                image = decode_picture(jpeg)
            except (OSError, SyntaxError, ValueError):  # raised by Pillow for damaged data
                output.count_bad()
                continue
            if not output.publish(now, image):
                return
        for _ in range(splitter.bad - bad):
            output.count_bad()
        bad = splitter.bad
    if not any_jpeg and not bad:
        raise OSError("it ends before a picture came")


class JpegSplitter:
    """Finds whole JPEGs in data that arrives in pieces.

    Attributes:
        bad: number of JPEGs that broke off.
    """

    def __init__(self) -> None:
        self._data, self._at = bytearray(), 0  # starts with a JPEG; position from which its next marker is searched
        self.bad = 0

    def split(self, data: bytes) -> Iterator[bytes]:
        """Add data and yield the JPEGs that are complete.

        Raises:
            OSError: one has no end.
        """
        self._data += data
        while self._begin():
            end = self._end()
            if end is None:
                if len(self._data) > _LONGEST:
                    raise OSError("it sends no JPEGs")
                return
            jpeg = bytes(self._data[:end])
            del self._data[:end]
            self._at = 0
            if jpeg.endswith(b"\xff\xd9"):
                yield jpeg
            else:
                self.bad += 1

    def _begin(self) -> bool:
        """Drop data before a JPEG; return False if none begins yet."""
        if self._at == 0:
            start = self._data.find(_START)
            del self._data[: start if start >= 0 else max(0, len(self._data) - 2)]
            self._at = 2 if start >= 0 else 0
        return self._at > 0

    def _end(self) -> int | None:
        """Return where the JPEG ends, or the next one begins within it; None if more data is needed."""
        data = self._data
        while (found := _MARKER.search(data, self._at)) is not None:
            at, marker = found.start(), data[found.start() + 1]
            if marker == _END:
                return at + 2
            if marker == _NEXT:
                return at
            if marker in _NO_LENGTH:
                self._at = at + 2
                continue
            if at + 4 > len(data):
                self._at = at
                return None
            after = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
            if after > len(data):
                self._at = at
                return None
            self._at = after
        self._at = max(self._at, len(data) - 1)
        return None
