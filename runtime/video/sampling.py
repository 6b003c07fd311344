"""From frames at any rate to clip windows at the clip's rate.

Sample j shows the latest frame at or before j / frames_per_second from the first frame on. Window k consists of the
samples k * stride ... k * stride + frames - 1. Times are compared as fractions of whole microseconds, so that 29.97
frames a second cannot round a frame past its sample.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import repeat
from math import ceil, floor
from typing import TypeVar

import numpy as np
import PIL.Image

from vlj_edge.presets import Clip
from vlj_edge.results import Window

from .source import Frame, Image

Sample = TypeVar("Sample")

_SLOWER = Fraction(102, 100)  # times the seconds between samples: frames further apart are of a slower source
_LONGEST_STEP = Fraction(21, 20)  # seconds; over longer gaps nothing is known of what was between
_LONGEST_PERIOD = 2.0  # seconds; of a source that is so slow by itself, all frames are blended with the next
_LEAST_SHARE = 0.02  # of the later frame, below which it is left out
_SLOW_GAPS = 8  # in a row, before the source counts as slow


def samples(
    frames: Iterable[Frame],
    clip: Clip,
    crop: Callable[[Image], Sample],
    period: float = 0.0,
    on_slow: Callable[[float], None] = lambda frames_per_second: None,
) -> Iterator[tuple[Fraction, Sample]]:
    """Yield the time of each sample, seconds, and crop(image) of what it shows.

    A sample shows the latest frame. Where frames are further apart than samples, but no more than a second or the
    source's own period, the samples between them show both, blended by the distance in time: an encoder that sees each
    frame twice finds no movement (results/slow_sources.json). Over longer gaps the frame is repeated, as the same
    object. A sample comes out with the first frame after its time, or when the source ends.

    Args:
        frames: in order of time.
        period: nominal seconds between two frames. The last frame counts as lasting so long.
        on_slow: called with the frames a second whenever the source has been slower than the clip for a while.
    """
    rate = _rate(clip)
    taken, origin = 0, Fraction(0)
    latest: Frame | None = None
    longest = max(_LONGEST_STEP, _exact(period) * _SLOWER) if period <= _LONGEST_PERIOD else _LONGEST_STEP
    slow: list[Fraction] = []  # gaps between the latest frames, as long as each is longer than a sample's
    for frame in frames:
        time = _exact(frame.time)
        if latest is None:
            latest, origin = frame, time
            continue
        due = ceil((time - origin) * rate)
        if due > taken:
            times = [origin + number / rate for number in range(taken, due)]
            yield from zip(times, _between(latest, frame, times, 1 / rate, longest, crop), strict=True)
            taken = due
        gap = time - _exact(latest.time)
        slow = [*slow, gap][-_SLOW_GAPS - 1 :] if _is_slow(latest, frame, 1 / rate) else []
        if len(slow) == _SLOW_GAPS:
            on_slow(float(_SLOW_GAPS / sum(slow)))
        latest = frame
    if latest is not None:
        last = _exact(latest.time) - origin
        due = max(ceil((_exact(latest.time + period) - origin) * rate), floor(last * rate) + 1)
        if due > taken:
            cropped = crop(latest.image)
            yield from ((origin + number / rate, cropped) for number in range(taken, due))


def _between(
    earlier: Frame,
    later: Frame,
    times: Sequence[Fraction],
    step: Fraction,
    longest: Fraction,
    crop: Callable[[Image], Sample],
) -> Iterator[Sample]:
    """Yield what the samples at these times show, which lie from the earlier frame on and before the later one.

    Args:
        step: seconds between samples.
        longest: seconds between frames over which they are blended.
    """
    begin, end = _exact(earlier.time), _exact(later.time)
    if not (_is_slow(earlier, later, step) and end - begin <= longest) or earlier.image.shape != later.image.shape:
        yield from repeat(crop(earlier.image), len(times))
        return
    for time in times:
        share = float((time - begin) / (end - begin))
        yield crop(earlier.image if share < _LEAST_SHARE else _blend(earlier.image, later.image, share))


def _is_slow(earlier: Frame, later: Frame, step: Fraction) -> bool:
    """Return whether two frames that follow one another are further apart than samples."""
    gap = later.time - earlier.time if earlier.until_next is None else earlier.until_next
    return gap > step * _SLOWER


def _blend(earlier: Image, later: Image, share: float) -> Image:
    return np.asarray(PIL.Image.blend(PIL.Image.fromarray(earlier), PIL.Image.fromarray(later), share))


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
