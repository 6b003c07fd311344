"""From frames at any rate to clip windows at the clip's rate.

Sample j shows the latest frame at or before j / frames_per_second from the first frame on. Window k consists of the
samples k * stride ... k * stride + frames - 1. Times are compared as fractions of whole microseconds, so that 29.97
frames a second cannot round a frame past its sample.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
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
) -> Iterator[tuple[Fraction, Sample]]:
    """Yield the time of each sample, seconds, and crop(image) of the frame that it shows.

    crop() runs once for each frame that is sampled. Frames of a slower source are repeated, as the same object, some of
    a faster one skipped. A sample comes out with the first frame after its time, or when the source ends.

    Args:
        frames: in order of time.
        period: nominal seconds between two frames. The last frame counts as lasting so long.
    """
    rate = _rate(clip)
    taken, origin = 0, Fraction(0)
    latest: Frame | None = None

    def shown_until(due: int) -> Iterator[tuple[Fraction, Sample]]:
        nonlocal taken
        if latest is not None and due > taken:
            cropped = crop(latest.image)
            for number in range(taken, due):
                yield origin + number / rate, cropped
            taken = due

    for frame in frames:
        time = _exact(frame.time)
        if latest is None:
            origin = time
        yield from shown_until(ceil((time - origin) * rate))
        latest = frame
    if latest is not None:
        last = _exact(latest.time) - origin
        end = _exact(latest.time + period) - origin
        yield from shown_until(max(ceil(end * rate), floor(last * rate) + 1))


def windows(samples: Iterable[tuple[Fraction, Sample]], clip: Clip) -> Iterator[tuple[Window, list[Sample]]]:
    """Yield each clip window with its samples, as soon as the last of them is there.

    A source shorter than a clip gives one window in which the last sample is repeated, as V-JEPA 2 treats an image as a
    clip (arXiv 2506.09985). Samples after the last whole window are left out.

    Args:
        samples: each with its time, at the clip's rate.
    """
    recent: deque[tuple[Fraction, Sample]] = deque(maxlen=clip.frames)
    count = 0
    for sample in samples:
        recent.append(sample)
        count += 1
        if count >= clip.frames and (count - clip.frames) % clip.stride == 0:
            yield _window((count - clip.frames) // clip.stride, recent[0][0], clip), [item for _, item in recent]
    if 0 < count < clip.frames:
        items = [item for _, item in recent]
        yield _window(0, recent[0][0], clip), items + [items[-1]] * (clip.frames - count)


def _window(index: int, start: Fraction, clip: Clip) -> Window:
    return Window(index, float(start), float(start + clip.frames / _rate(clip)))


def _rate(clip: Clip) -> Fraction:
    return Fraction(clip.frames_per_second).limit_denominator(1001)  # 1001: NTSC rates such as 30000/1001


def _exact(time: float) -> Fraction:
    return Fraction(round(time * 1_000_000), 1_000_000)
