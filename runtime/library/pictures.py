"""Write a thumbnail or a clip of a moment."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import closing, nullcontext
from pathlib import Path

from vlj_edge.atomic_write import atomic_write
from vlj_edge.errors import VljEdgeError
from vlj_edge.results import Moment

from ..video.recordings.files import VideoFile
from ..video.recordings.film import film
from ..video.recordings.image import encode_jpeg
from ..video.source import Frame, Source
from ..video.uri import open_source
from .moments import arguments_of

_LEAD = 2.0  # seconds read before a moment, for the frame that is shown at its start


def write_thumbnail(moment: Moment, path: Path, reading: str = "", width: int = 320) -> None:
    """Write the frame in the middle of a moment's best window as a JPEG, at most `width` pixels wide; its stored
    thumbnail if the video is gone or has changed, or was never a file.

    Args:
        reading: how the video was read when it was indexed, see Video.

    Raises:
        VljEdgeError: there is neither, or the file cannot be written.
    """
    middle = (moment.best_start + moment.best_end) / 2
    try:
        with _open(moment, reading, middle) as source:
            jpeg = encode_jpeg(next(_shown(source, moment, middle, math.inf)).image, width, quality=90)
    except VljEdgeError:
        if moment.thumbnail is None:
            raise
        jpeg = moment.thumbnail
    try:
        with atomic_write(path) as stream:
            stream.write(jpeg)
    except OSError as error:
        raise VljEdgeError(f"{path} cannot be written ({error.strerror}): check the folder and the disk") from error


def write_clip(moment: Moment, path: Path, reading: str = "") -> None:
    """Write a moment as an MP4 (H.264 and AAC), in the video's own size and with its sound.

    Args:
        reading: how the video was read when it was indexed, see Video.

    Raises:
        VljEdgeError: the video no longer exists or has changed, or the file cannot be written.
    """
    with _open(moment, reading, moment.start, moment.end) as source:
        sound = source.sound(moment.start, moment.end) if isinstance(source, VideoFile) else None
        with closing(sound) if sound else nullcontext(), film(path, source.period, sound) as writer:
            for frame in _shown(source, moment, moment.start, moment.end):
                writer.write(max(0.0, frame.time - moment.start), frame.image)


def _open(moment: Moment, reading: str, start: float, end: float | None = None) -> Source:
    path, arguments = Path(moment.file), arguments_of(reading)
    from_time = max(arguments.pop("start", 0.0), start - _LEAD)
    until = min((time for time in (arguments.pop("end", None), end) if time is not None), default=None)
    try:
        return open_source(path, start=from_time, end=until, **arguments)
    except VljEdgeError:
        open_source(path, **arguments).close()  # raises if the file itself is unreadable
        raise _changed(moment, start) from None


def _shown(source: Source, moment: Moment, start: float, end: float) -> Iterator[Frame]:
    """Yield the frames shown between two times (seconds), at least one."""
    found = False
    for frame, following in _with_next(source):
        if frame.time >= end:
            break
        if (frame.time + source.period if following is None else following.time) > start:
            found = True
            yield frame
    if not found:
        raise _changed(moment, start)


def _changed(moment: Moment, start: float) -> VljEdgeError:
    return VljEdgeError(f"{moment.file} ends before {start:.1f} s: it has changed, so index it again")


def _with_next(source: Source) -> Iterator[tuple[Frame, Frame | None]]:
    """Yield each frame with the one after it, None for the last."""
    before: Frame | None = None
    for frame in source:
        if before is not None:
            yield before, frame
        before = frame
    if before is not None:
        yield before, None
