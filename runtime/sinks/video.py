"""A live source's video in segments, with the texts drawn into it."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from vlj_edge.results import Narration

from ..video.recordings.film import FilmWriter, check_film, film
from ..video.source import Frame, Source, WrappedSource
from .base import Event
from .console import one_line
from .text_overlay import Pixels, with_text


class AnnotatedVideoWriter:
    """A sink that writes frames to MP4 segments, each with the text that is current when the frame arrives.

    The segments STEM-0001.mp4, STEM-0002.mp4, ... are put in the folder of `path`, named after its stem. An MP4 can be
    played only once it is finished. So each segment is written under a hidden name and renamed when it is complete: a
    process that is killed loses at most the current segment. Numbers continue those of earlier runs.

    write_frame(), write() and close() may be called from different threads.

    Args:
        period: nominal seconds between two frames.
        segment_seconds: length of a segment at most.

    Raises:
        VljEdgeError: there is no such folder, or it may not be written to.
    """

    def __init__(self, path: Path | str, period: float, segment_seconds: float = 60.0) -> None:
        path = Path(path)
        self._folder, self._stem = path.parent, path.stem
        check_film(self._folder / f"{self._stem}-.mp4")
        self._period, self._segment_seconds = period, segment_seconds
        self._number = self._last_number()
        self._lock = threading.Lock()
        self._text = ""
        self._shown: Narration | None = None
        self._segment = ExitStack()
        self._writer: FilmWriter | None = None
        self._start = self._latest = 0.0  # seconds: of the segment, of the newest frame
        self._closed = False

    def write(self, event: Event) -> None:
        """See Sink. The following frames show this text."""
        if event.narration.replaces(self._shown):
            self._shown, self._text = event.narration, one_line(event.narration.text)

    def write_frame(self, time: float, image: Pixels) -> None:
        """Write a frame. Does nothing after close().

        Args:
            time: seconds from the start of the source.
            image: uint8 [height, width, 3], BGR; fitted into the size of the segment's first.

        Raises:
            VljEdgeError: the segment cannot be written. The next frame begins another.
        """
        with self._lock:
            if self._closed:
                return
            over = time < self._latest or time - self._start >= self._segment_seconds - 1e-6
            self._latest = time
            if over:
                self._finish_segment()
            try:
                writer = self._writer = self._writer or self._begin_segment(time)
                writer.write(time - self._start, with_text(image, self._text))
            except BaseException as error:
                self._writer = None
                self._segment.__exit__(type(error), error, error.__traceback__)  # discards it
                raise

    def close(self) -> None:
        """See Sink. Finishes the segment.

        Raises:
            VljEdgeError: it cannot be written.
        """
        with self._lock:
            self._closed = True
            self._finish_segment()

    def _begin_segment(self, time: float) -> FilmWriter:
        self._number, self._start = self._number + 1, time
        path = self._folder / f"{self._stem}-{self._number:04}.mp4"
        return self._segment.enter_context(film(path, self._period))

    def _finish_segment(self) -> None:
        self._writer = None
        self._segment.close()

    def _last_number(self) -> int:
        names = [re.fullmatch(re.escape(self._stem) + r"-(\d{4,})\.mp4", p.name) for p in self._folder.iterdir()]
        return max((int(name[1]) for name in names if name), default=0)


class RecordedSource(WrappedSource):
    """A source whose frames are also written to an annotated video when they are read."""

    def __init__(self, source: Source, video: AnnotatedVideoWriter) -> None:
        super().__init__(source)
        self._video = video

    def frames(self) -> Iterator[Frame]:
        """See Source."""
        for frame in self._source:
            self._video.write_frame(frame.time, frame.image)
            yield frame
        self.incomplete = self._source.incomplete
