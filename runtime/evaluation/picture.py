"""The picture of a clip."""

from __future__ import annotations

from contextlib import closing

from vlj_edge.errors import VljEdgeError

from ..video.recordings.image import encode_jpeg
from ..video.uri import open_source
from .data import Clip
from .embed import check_recording

_WHOLE = 1.0  # s after the start of a clip whose end is not known


def picture(clip: Clip, width: int = 240) -> bytes | None:
    """Return the frame in the middle of a clip, or near its start if it has no end, as a JPEG at most `width` pixels
    wide; None if there is none any more.
    """
    middle = clip.start + (_WHOLE if clip.end is None else (clip.end - clip.start) / 2)
    for start in (middle, clip.start):  # a whole video may be shorter
        try:
            check_recording(clip.video)
            with closing(open_source(clip.video, start=start, end=clip.end)) as source:
                for frame in source:
                    return encode_jpeg(frame.image, width)
        except VljEdgeError:
            continue
    return None
