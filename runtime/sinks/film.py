"""A video of a recording with its texts drawn in, written after narration by reading the recording a second time."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import closing, nullcontext
from pathlib import Path

from vlj_edge.results import Narration

from ..video.recordings.files import VideoFile
from ..video.recordings.film import film
from ..video.recordings.image_files import ImageFiles
from ..video.source import Frame, Source, WrappedSource
from .console import one_line
from .text_overlay import with_text


def write_film(source: Source, narrations: Sequence[Narration], path: Path, offset: float = 0.0) -> None:
    """Write a recording as an MP4 with its sound; each text is drawn into the frames in which subtitles show it.

    Frames keep their times; where the source is a part of a recording, they count from its start.

    Args:
        source: gives all frames of the narrated part. It is closed here.
        narrations: in order.
        offset: seconds added to the times of the source's frames.

    Raises:
        VljEdgeError: it cannot be read or written; then no file is left.
    """
    begins = [round(narration.begins, 3) for narration in narrations]  # SRT has milliseconds
    texts = ["", *(one_line(narration.text) for narration in narrations)]
    start = source.part.start if isinstance(source, VideoFile | ImageFiles) else 0.0
    sound = source.sound() if isinstance(source, VideoFile) else None
    with source, closing(sound) if sound else nullcontext(), film(path, source.period, sound) as writer:
        for frame in source:
            time = frame.time + offset
            text = texts[bisect_right(begins, time + 1e-6)]
            writer.write(time - start, with_text(frame.image, text))


class KeptSource(WrappedSource):
    """Wraps a source that can be read only once, such as a pipe. Its frames are also written to a video, to be read
    again.

    Args:
        path: of the video, which exists once all frames were read.

    Attributes:
        first: time of the first frame, seconds, which is time 0 of the video.
    """

    first = 0.0

    def __init__(self, source: Source, path: Path) -> None:
        super().__init__(source)
        self._path = path

    def frames(self) -> Iterator[Frame]:
        """See Source.

        Raises:
            VljEdgeError: the video cannot be written.
        """
        with film(self._path, self.period) as writer:
            for number, frame in enumerate(self._source):
                self.first = frame.time if number == 0 else self.first
                writer.write(frame.time - self.first, frame.image)
                yield frame
        self.incomplete = self._source.incomplete
