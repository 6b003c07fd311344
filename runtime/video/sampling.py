"""From frames at any rate to clip windows at the clip's rate.

Sample j shows the latest frame at or before time j / frames_per_second. Window k consists of the samples k * stride ...
k * stride + frames - 1. Times are compared as fractions of whole microseconds, so that 29.97 frames a second cannot
round a frame past its sample.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from itertools import repeat
from math import ceil, floor
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from vlj_edge.presets import Clip
from vlj_edge.results import Window

from .source import Frame

Sample = TypeVar("Sample")


def samples(
    frames: Iterable[Frame],
    clip: Clip,
    crop: Callable[[npt.NDArray[np.uint8]], Sample],
    period: float = 0.0,
) -> Iterator[Sample]:
    """Yield crop(image) of the frame that each sample shows. crop() runs once for each frame that is sampled.

    Frames of a slower source are repeated, some of a faster one skipped. A sample comes out with the first frame after
    its time, or when the source ends.

    Args:
        frames: in order of time; samples before the first frame show the first frame.
        period: nominal seconds between two frames. The last frame counts as lasting so long. It is also used to guess
            which frames will be sampled, whose images are decoded before the next frame is read.
    """
    rate = _rate(clip)
    taken, early, slack = 0, True, 0.0
    latest: Frame | None = None
    for frame in frames:
        due = ceil(_exact(frame.time) * rate)  # samples before this frame
        if latest is not None and due > taken:
            slack = slack if early else period / 2  # it was shown for longer than `period`, and others may be
            yield from repeat(crop(latest.image), due - taken)
            taken = due
        latest = frame
        early = (frame.time + period + slack) * clip.frames_per_second > taken
        if early:
            _ = frame.image
    if latest is not None:
        end = _exact(latest.time + period)
        due = max(ceil(end * rate), floor(_exact(latest.time) * rate) + 1)
        if due > taken:
            yield from repeat(crop(latest.image), due - taken)


def windows(samples: Iterable[Sample], clip: Clip) -> Iterator[tuple[Window, list[Sample]]]:
    """Yield each clip window with its samples, as soon as the last of them is there.

    A source shorter than a clip gives one window in which the last sample is repeated, as V-JEPA 2 treats an image as a
    clip (arXiv 2506.09985). Samples after the last whole window are left out.
    """
    recent: deque[Sample] = deque(maxlen=clip.frames)
    count = 0
    for item in samples:
        recent.append(item)
        count += 1
        if count >= clip.frames and (count - clip.frames) % clip.stride == 0:
            yield window((count - clip.frames) // clip.stride, clip), list(recent)
    if 0 < count < clip.frames:
        yield window(0, clip), list(recent) + [recent[-1]] * (clip.frames - count)


def window(index: int, clip: Clip) -> Window:
    """Return window `index` with its times, each computed from integers so that no error adds up in a long stream."""
    rate, first = _rate(clip), index * clip.stride
    return Window(index, float(first / rate), float((first + clip.frames) / rate))


def _rate(clip: Clip) -> Fraction:
    return Fraction(clip.frames_per_second).limit_denominator(1001)  # 1001: NTSC rates such as 30000/1001


def _exact(time: float) -> Fraction:
    return Fraction(round(time * 1_000_000), 1_000_000)
