"""From frames at any rate to clip windows at the clip's rate.

Sample j shows the latest frame at or before j / frames_per_second from the first frame on. Window k consists of the
samples k * stride ... k * stride + frames - 1. Times are compared as fractions of whole microseconds, so that 29.97
frames a second cannot round a frame past its sample.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from math import ceil, floor
from typing import Generic, TypeVar, cast

import numpy as np
import PIL.Image

from vlj_edge.presets import Clip
from vlj_edge.results import Window

from .source import Frame, Image

Cropped = TypeVar("Cropped")

_SLOWER = Fraction(102, 100)  # times the sample interval: a source whose frames are further apart is slower
_LONGEST_STEP = Fraction(21, 20)  # seconds; over longer gaps frames are not blended
_LONGEST_PERIOD = 2.0  # seconds; frames of a source with up to this period are always blended
_LEAST_SHARE = 0.02  # of the later frame, below which it is ignored
_SLOW_GAPS = 8  # consecutive gaps after which the source counts as slow


class _Once(Generic[Cropped]):
    """A value that is computed at the first call, which then releases its inputs."""

    def __init__(self, compute: Callable[[], Cropped]) -> None:
        self._compute: Callable[[], Cropped] | None = compute
        self._value: Cropped | None = None

    def __call__(self) -> Cropped:
        if self._compute is not None:
            self._value, self._compute = self._compute(), None
        return cast(Cropped, self._value)


@dataclass(frozen=True)
class Sample(Generic[Cropped]):
    """The source's picture at one of the times that the model samples.

    Attributes:
        time: seconds.
        crop: returns the cropped frame, which is computed at the first call: many samples are in no window that is
            used. Samples that show the same frame return the same object.
    """

    time: Fraction
    crop: Callable[[], Cropped]


def samples(
    frames: Iterable[Frame],
    clip: Clip,
    crop: Callable[[Image], Cropped],
    period: float = 0.0,
    on_slow: Callable[[float], None] = lambda frames_per_second: None,
) -> Iterator[Sample[Cropped]]:
    """Yield every sample of a source.

    A sample shows the latest frame. If frames are further apart than samples, but no more than a second or the
    source's own period, the samples between them are blends of both, weighted by time: an encoder that gets each frame
    twice finds no movement (results/slow_sources.json). Over longer gaps the frame is repeated, as the same object. A
    sample is yielded with the first frame after its time, or when the source ends.

    Args:
        frames: in order of time.
        period: nominal seconds between two frames. The last frame has this duration.
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
            yield from _between(latest, frame, times, 1 / rate, longest, crop)
            taken = due
        gap = time - _exact(latest.time)
        slow = [*slow, gap][-_SLOW_GAPS - 1 :] if _is_slow(latest, frame, 1 / rate) else []
        if len(slow) == _SLOW_GAPS:
            on_slow(float(_SLOW_GAPS / sum(slow)))
        latest = frame
    if latest is not None:
        last = _exact(latest.time) - origin
        due = max(ceil((_exact(latest.time + period) - origin) * rate), floor(last * rate) + 1)
        yield from _shown(latest, [origin + number / rate for number in range(taken, due)], crop)


def _between(
    earlier: Frame,
    later: Frame,
    times: Sequence[Fraction],
    step: Fraction,
    longest: Fraction,
    crop: Callable[[Image], Cropped],
) -> Iterator[Sample[Cropped]]:
    """Yield the samples at these times, which lie from the earlier frame on and before the later one.

    Args:
        step: seconds between samples.
        longest: seconds between frames over which they are blended.
    """
    begin, end = _exact(earlier.time), _exact(later.time)
    if not (_is_slow(earlier, later, step) and end - begin <= longest):
        yield from _shown(earlier, times, crop)
        return
    for time in times:
        share = float((time - begin) / (end - begin))
        if share < _LEAST_SHARE:
            yield from _shown(earlier, [time], crop)
        else:
            yield Sample(time, _Once(partial(_crop_blend, earlier, later, share, crop)))


def _shown(frame: Frame, times: Sequence[Fraction], crop: Callable[[Image], Cropped]) -> Iterator[Sample[Cropped]]:
    cropped = _Once(lambda: crop(frame.image))
    return (Sample(time, cropped) for time in times)


def _is_slow(earlier: Frame, later: Frame, step: Fraction) -> bool:
    """Return whether two frames that follow one another are further apart than samples."""
    gap = later.time - earlier.time if earlier.until_next is None else earlier.until_next
    return gap > step * _SLOWER


def _crop_blend(earlier: Frame, later: Frame, share: float, crop: Callable[[Image], Cropped]) -> Cropped:
    if earlier.image.shape != later.image.shape:  # the source has changed its size
        return crop(earlier.image)
    blend = PIL.Image.blend(PIL.Image.fromarray(earlier.image), PIL.Image.fromarray(later.image), share)
    return crop(np.asarray(blend))


def windows(
    samples: Iterable[Sample[Cropped]], clip: Clip, every: float = 0.0
) -> Iterator[tuple[Window, list[Cropped]]]:
    """Yield each clip window with its cropped samples, as soon as the last of them is available.

    A source shorter than a clip gives one window in which the last sample is repeated, as V-JEPA 2 treats an image as a
    clip (arXiv 2506.09985). Samples after the last whole window are left out.

    Args:
        samples: at the clip's rate.
        every: seconds between the starts of two windows; windows between are skipped, uncropped.
    """
    recent: deque[Sample[Cropped]] = deque(maxlen=clip.frames)
    count = 0
    due: Fraction | float = -math.inf
    for sample in samples:
        count += 1
        if sample.time >= due:  # otherwise no yielded window begins with it or before it
            recent.append(sample)
        if len(recent) == clip.frames and (count - clip.frames) % clip.stride == 0:
            yield _window((count - clip.frames) // clip.stride, recent[0].time, clip), [s.crop() for s in recent]
            due = recent[0].time + _exact(every)
            while recent and recent[0].time < due and every:
                recent.popleft()
    if 0 < count < clip.frames:
        items = [sample.crop() for sample in recent]
        yield _window(0, recent[0].time, clip), items + [items[-1]] * (clip.frames - count)


def _window(index: int, start: Fraction, clip: Clip) -> Window:
    return Window(index, float(start), float(start + clip.frames / _rate(clip)))


def _rate(clip: Clip) -> Fraction:
    return Fraction(clip.frames_per_second).limit_denominator(1001)  # 1001: NTSC rates such as 30000/1001


def _exact(time: float) -> Fraction:
    return Fraction(round(time * 1_000_000), 1_000_000)
