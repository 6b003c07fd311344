"""A recording as a film with its texts: made once they are all known, by reading the recording a second time."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from contextlib import closing, nullcontext
from pathlib import Path

from vlj_edge.results import Narration

from ..video.files import VideoFile
from ..video.film import film
from ..video.source import Source
from .console import one_line
from .text_overlay import with_text


def write_film(
    source: Source, narrations: Sequence[Narration], path: Path, start: float = 0.0, end: float | None = None
) -> None:
    """Write a recording as an MP4 with its sound, each text in exactly the frames in which subtitles show it.

    Frames keep their times; with a start, they count from it.

    Args:
        source: of the recording, from `start` to `end`, with all its frames.
        narrations: of the same part, in order.

    Raises:
        VljEdgeError: it cannot be read, or not be written. No film is left then.
    """
    begins = [round(narration.centre, 3) for narration in narrations]  # SRT has milliseconds
    texts = ["", *(one_line(narration.text) for narration in narrations)]
    sound = source.sound(start, end) if isinstance(source, VideoFile) else None
    with closing(sound) if sound else nullcontext(), film(path, source.period, sound) as writer:
        for frame in source:
            text = texts[bisect_right(begins, frame.time + 1e-6)]
            writer.write(frame.time - start, with_text(frame.image, text))
