"""The video itself, with the texts drawn into it."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vlj_edge.errors import VljEdgeError

from ..video.opencv import import_opencv
from ..video.source import Frame, Source
from .base import Event
from .console import one_line
from .text_overlay import Pixels, with_text


class AnnotatedVideoWriter:
    """A sink that writes the frames it is given, with the current text drawn into them, to an MP4 in segments.

    The segments STEM-0001.mp4, STEM-0002.mp4, ... are put in the folder of `path`, named after its stem. An MP4 can be
    played only once it is finished. So each segment is written under a hidden name and renamed at its end: a process
    that is killed loses at most the segment it was writing. Numbers go on from the segments of earlier runs.

    write_frame(), write() and close() may be called from different threads.

    Args:
        period: nominal seconds between two frames.
        segment_seconds: length of a segment at most.

    Raises:
        VljEdgeError: there is no such folder.
    """

    def __init__(self, path: Path | str, period: float, segment_seconds: float = 60.0) -> None:
        path = Path(path)
        self._folder, self._stem = path.parent, path.stem
        if not self._folder.is_dir():
            raise VljEdgeError(f"{self._folder} is not a folder: make it, or give another path")
        self._period, self._segment_frames = period, max(1, int(segment_seconds / period + 1e-6))
        self._number = self._last_number()
        self._lock = threading.Lock()
        self._text = ""
        self._size: tuple[int, int] | None = None  # width and height of the first frame
        self._writer: Any = None
        self._segment_start, self._written = 0.0, 0  # seconds; frames
        self._closed = False

    def write(self, event: Event) -> None:
        """See Sink. Frames that follow show this text."""
        self._text = one_line(event.narration.text)

    def write_frame(self, time: float, image: Pixels) -> None:
        """Write a frame. Does nothing after close().

        A frame is repeated where those before it are missing, as a live source skips some, so that the video runs at
        the source's speed.

        Args:
            time: seconds from the start of the source.
            image: uint8 [height, width, 3], BGR; resized to the size of the first.

        Raises:
            VljEdgeError: the video cannot be written.
        """
        with self._lock:
            if self._closed:
                return
            drawn = self._draw(image)
            index = round((time - self._segment_start) / self._period)  # its place in this segment
            if self._writer is None or self._written >= self._segment_frames or index >= self._segment_frames:
                self._finish_segment()
                self._begin_segment(time)
                index = 0
            for _ in range(max(1, index + 1 - self._written)):
                if self._written < self._segment_frames:
                    self._writer.write(drawn)
                    self._written += 1

    def close(self) -> None:
        """See Sink. Finishes the segment.

        Raises:
            VljEdgeError: it cannot be written.
        """
        with self._lock:
            self._closed = True
            self._finish_segment()

    def _draw(self, image: Pixels) -> Pixels:
        if self._size is None:
            self._size = (image.shape[1], image.shape[0])
        if (image.shape[1], image.shape[0]) != self._size:
            image = import_opencv().resize(image, self._size, interpolation=import_opencv().INTER_AREA)
        return with_text(image, self._text)

    def _begin_segment(self, time: float) -> None:
        cv2 = import_opencv()
        self._number += 1
        unfinished = self._unfinished()
        self._writer = cv2.VideoWriter(str(unfinished), cv2.VideoWriter_fourcc(*"mp4v"), 1 / self._period, self._size)
        self._segment_start, self._written = time, 0
        if not self._writer.isOpened():
            self._writer, self._number = None, self._number - 1
            raise VljEdgeError(f"no video can be written to {self._folder}: check that it is writable and has room")

    def _finish_segment(self) -> None:
        if self._writer is None:
            return
        cv2 = import_opencv()
        self._writer.release()
        self._writer = None
        unfinished = self._unfinished()
        check = cv2.VideoCapture(str(unfinished))  # OpenCV does not report a full disk
        good = check.grab()
        check.release()
        try:
            if not good:
                raise OSError("its end is missing")
            unfinished.replace(self._folder / f"{self._stem}-{self._number:04}.mp4")
        except OSError as error:
            unfinished.unlink(missing_ok=True)
            raise VljEdgeError(
                f"segment {self._number} of {self._folder / self._stem} cannot be written ({error.strerror or error}): "
                "free space"
            ) from error

    def _unfinished(self) -> Path:
        return self._folder / f".{self._stem}-{self._number:04}.mp4"

    def _last_number(self) -> int:
        names = [re.fullmatch(re.escape(self._stem) + r"-(\d{4,})\.mp4", p.name) for p in self._folder.iterdir()]
        return max((int(name[1]) for name in names if name), default=0)


class RecordedSource(Source):
    """A source whose frames are also written to an annotated video when they are read."""

    def __init__(self, source: Source, video: AnnotatedVideoWriter) -> None:
        self._source, self._video = source, video
        self.live, self.period = source.live, source.period

    def frames(self) -> Iterator[Frame]:
        """See Source."""
        for frame in self._source:
            self._video.write_frame(frame.time, frame.image)
            yield frame
        self.incomplete = self._source.incomplete

    def interrupt(self) -> None:
        """See Source."""
        self._source.interrupt()

    def close(self) -> None:
        """See Source."""
        self._source.close()
