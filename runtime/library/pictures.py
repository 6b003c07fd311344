"""Write a thumbnail or a clip of a moment."""

from __future__ import annotations

import math
from collections.abc import Generator
from contextlib import closing
from itertools import chain
from pathlib import Path

from vlj_edge.errors import VljEdgeError
from vlj_edge.results import Moment

from ..video.opencv import import_opencv
from ..video.source import Frame
from ..video.uri import open_source


def write_thumbnail(moment: Moment, path: Path, width: int = 320) -> None:
    """Write the frame in the middle of a moment's best window as a JPEG, at most `width` pixels wide.

    Raises:
        VljEdgeError: the video is gone or has changed, or the file cannot be written.
    """
    cv2 = import_opencv()
    middle = (moment.best_start + moment.best_end) / 2
    with closing(_frames(moment, middle, math.inf)) as frames:
        image = next(frames).image
    height = max(1, round(image.shape[0] * width / image.shape[1]))
    if image.shape[1] > width:
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    if not cv2.imwrite(str(path), image):
        raise VljEdgeError(f"{path} cannot be written: check the folder and the disk")


def write_clip(moment: Moment, path: Path) -> None:
    """Write a moment as an MP4 (MPEG-4 part 2, which every build of OpenCV has), in the video's own size and rate.

    Raises:
        VljEdgeError: the video is gone or has changed, or the file cannot be written.
    """
    cv2 = import_opencv()
    with closing(_frames(moment, moment.start, moment.end)) as frames:
        first = next(frames)
        with closing(open_source(Path(moment.file))) as source:
            rate = 1 / source.period
        height, width = first.image.shape[:2]
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), rate, (width, height))
        try:
            if not writer.isOpened():
                raise VljEdgeError(f"{path} cannot be written: check the folder and the disk")
            for frame in chain([first], frames):
                writer.write(frame.image)
        finally:
            writer.release()


def _frames(moment: Moment, start: float, end: float) -> Generator[Frame, None, None]:
    """Yield the frames shown between two times (seconds), at least one."""
    found = False
    with closing(open_source(Path(moment.file))) as source:
        for frame in source:
            if frame.time >= end:
                break
            if frame.time + source.period > start:
                found = True
                yield frame
    if not found:
        raise VljEdgeError(f"{moment.file} ends before {start:.1f} s: it has changed, so index it again")
