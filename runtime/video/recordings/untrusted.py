"""Recordings from strangers, decoded by a reader process with limits on memory, processor time and the clock."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vlj_edge.child import python_command
from vlj_edge.errors import VljEdgeError

from ..cameras.camera_address import CameraAddress
from ..cameras.reader_output import ReaderOutput
from ..cameras.reader_process import ReaderProcess
from ..decoding.pyav import UnreadableError
from ..part import Part
from ..source import Frame, Source
from .files import VideoFile

MEMORY = 1 << 30  # bytes that the process may allocate; 4K needs about 400 MB
MOST_SIDE, MOST_PIXELS = 3840, 3840 * 2160  # of any frame; FFmpeg refuses larger ones before it allocates them
_READER = python_command("vlj_edge.runtime.video.cameras.camera_process")
# FFmpeg's names. A playlist or a description of a session, whose files it would open, is in none of them; and it reads
# one open file here, with no protocol to open another.
FORMATS = "mov,matroska,avi,mpeg,mpegts,flv,ogg"


class UntrustedFile(Source):
    """The frames of a file, decoded in a process that is killed at a deadline. No frame is dropped.

    Args:
        path: of the file.
        shown: its name in errors.
        until: the deadline, a time.monotonic().
        closing: reading ends soon after it is set.
        reader: the command line of the reader process.

    Raises:
        VljEdgeError: it cannot be read, its frames have more than 3840x2160 pixels, or the limits were reached.
        TimeoutError: the deadline has passed, or `closing` is set.
    """

    def __init__(
        self, path: Path, shown: str, until: float, closing: threading.Event, reader: Sequence[str] = _READER
    ) -> None:
        self.shown, self._until, self._closing = shown, until, closing
        remaining = max(until - time.monotonic(), 0.0)
        address = CameraAddress(shown, str(path), "file", remedy="send another clip")
        limits = {"memory": MEMORY, "seconds": math.ceil(remaining) + 1}
        self._reader = ReaderProcess(address, 0.0, reader, limits=limits, on_request=True)
        try:
            self._first = self._next()
        except BaseException:
            self.close()
            raise
        self.period = self._reader.period

    def frames(self) -> Iterator[Frame]:
        """See Source."""
        following, self._first = self._first, None
        while following is not None:
            yield following
            following = self._next()
        self.incomplete = self._reader.failure

    def interrupt(self) -> None:
        """See Source. Kills the process."""
        self._reader.kill()

    def close(self) -> None:
        """See Source."""
        self._reader.close()

    def _next(self) -> Frame | None:
        """Return the next frame; None after the last."""
        self._reader.request()
        found = self._reader.next(self._until - time.monotonic(), self._closing)
        if found is not None:
            return Frame(found.time, found.image)
        if self._reader.finished:
            return None
        if time.monotonic() >= self._until or self._closing.is_set():
            self._reader.kill()
            raise TimeoutError
        raise VljEdgeError(
            self._reader.failure
            or f"{self.shown} takes more memory or time to decode than it may: send a smaller or shorter one"
        )


def read_untrusted(path: str, shown: str, output: ReaderOutput, requests: Any) -> str:
    """Decode a file in the reader process, one frame for every byte of `requests`, and return the last line to send.

    Raises:
        VljEdgeError: it cannot be read, or its frames are too large.
    """
    try:
        with open(path, "rb") as stream:
            options = {"format_whitelist": FORMATS, "protocol_whitelist": "none"}
            part = Part(decoder="software")
            source = VideoFile(stream, shown, part, options=options, most_pixels=MOST_PIXELS)
            output.send(f"open {1 / source.period}")
            for frame in source:
                height, width = frame.image.shape[:2]
                if max(height, width) > MOST_SIDE:
                    raise VljEdgeError(f"{shown} has frames of {width}x{height}: send one of at most 3840x2160")
                if not requests.read(1) or not output.publish(frame.time, frame.image):
                    return "end"
            requests.read(1)
    except UnreadableError as error:
        raise VljEdgeError(f"{shown} is no video that can be read ({error.reason}): send another one") from None
    except MemoryError:
        raise VljEdgeError(f"{shown} takes more than {MEMORY >> 20} MB to decode: send a smaller one") from None
    return f"finished {source.incomplete or ''}".rstrip()
