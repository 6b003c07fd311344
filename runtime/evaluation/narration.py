"""Narration against annotated events: how good the texts are, for how long they are true, and how many were decoded.

An event is compared with the text that is dated nearest to its middle, as in the VL-JEPA paper (arXiv 2512.10942), by
CIDEr. A text is true while one of the captions of what happens is the same, word for word. Benchmarks count the same.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..calibration.events import AnnotatedEvent
from .cider import Cider
from .figures import Measure, mean, ratio

STEP = 0.1  # s between two moments at which the latest text is judged
GATES = "gates"
INTERVALS = (1, 2, 4, 8, 16, 32)  # s between two texts, without gates

Text = tuple[float, str]  # time that it is dated from, seconds; text


@dataclass(frozen=True)
class Said:
    """What a model says of one video in one way of decoding.

    Attributes:
        texts: in the order of their times.
        decodes: runs of the decoder.
        seconds: of the video.
    """

    texts: tuple[Text, ...]
    decodes: int
    seconds: float


@dataclass(frozen=True)
class RateFigures:
    """The narration in one way of decoding.

    Attributes:
        every: seconds between two texts; None: when the gates let one through.
        decodes_per_minute: runs of the decoder.
        cider: of the events, 0..10.
        true: share of the annotated time in which the latest text is one of the captions of what happens.
    """

    every: int | None
    decodes_per_minute: float
    cider: Measure
    true: Measure

    def as_dict(self) -> dict[str, Any]:
        """Return the attributes in plain JSON types."""
        return {
            "every": self.every,
            "decodes_per_minute": round(self.decodes_per_minute, 3),
            "cider": self.cider.as_dict(),
            "true": self.true.as_dict(),
        }


def nearest_scores(cider: Cider, first: int, events: Sequence[AnnotatedEvent], texts: Sequence[Text]) -> list[float]:
    """Return the CIDEr of each event: of the text whose date is nearest to the event's middle; 0 without any text.

    Args:
        first: the number in `cider` of the first event.
    """
    if not texts:
        return [0.0] * len(events)
    dates = np.array([date for date, _ in texts])
    nearest = [int(np.abs(dates - (event.start + event.end) / 2).argmin()) for event in events]
    return [cider.score(first + number, texts[index][1]) for number, index in enumerate(nearest)]


def truths(events: Sequence[AnnotatedEvent], texts: Sequence[Text]) -> list[bool]:
    """Return, for moments STEP seconds apart in each event, whether the latest text is one of its captions."""
    dates, found = np.array([date for date, _ in texts]), list[bool]()
    for event in events:
        moments = event.start + STEP * np.arange(math.ceil((event.end - event.start) / STEP - 1e-9))
        latest = np.searchsorted(dates, moments, "right") - 1
        found += [index >= 0 and texts[index][1] in event.captions for index in latest.tolist()]
    return found


def evenly(centres: npt.NDArray[np.float64], start: float, end: float, count: int) -> list[int]:
    """Return the windows to decode for evenly spaced texts: of each of `count` intervals of equal length between two
    times, the middle one of its windows.

    Args:
        centres: of the windows, seconds, increasing; an interval without windows gives none.
    """
    edges = np.linspace(start, end, count + 1)
    interval = np.searchsorted(edges[1:-1], centres, "right")
    groups = [np.flatnonzero(interval == number) for number in np.unique(interval)]
    return [int(group[len(group) // 2]) for group in groups]


def plain(text: str) -> str:
    """Return the words of a text in lower case without punctuation, as captions are compared."""
    return " ".join(re.findall(r"\w+(?:[-'\u2019]\w+)*", text.lower()))


def narration_figures(
    events: Mapping[Path, Sequence[AnnotatedEvent]], said: Mapping[Path, Mapping[int | None, Said]]
) -> tuple[dict[str, Measure], tuple[RateFigures, ...]]:
    """Return the figures of the narration with gates, and those of every way of decoding. Intervals are over videos.

    Args:
        events: of each video.
        said: of each video that was narrated, what was said by the seconds between two texts, None: with gates; at
            least one.
    """
    shown = {video: [_plain_event(event) for event in events[video]] for video in said}
    cider = Cider([event.captions for each in shown.values() for event in each])
    found = {every: _scored(cider, shown, {video: each[every] for video, each in said.items()})
             for every in (None, *INTERVALS)}  # fmt: skip
    rates = tuple(each.figures(every) for every, each in found.items())
    gated, every_second = found[None], found[INTERVALS[0]]
    measures = {"cider": rates[0].cider, "true": rates[0].true}
    if every_second.scores.any():
        measures["cider_kept"] = ratio(gated.scores, every_second.scores, gated.videos)
    if gated.decodes.any():
        measures["decodes_saved"] = ratio(every_second.decodes, gated.decodes, [*said])
    return measures, rates


def _plain_event(event: AnnotatedEvent) -> AnnotatedEvent:
    return AnnotatedEvent(event.start, event.end, tuple(map(plain, event.captions)))


@dataclass(frozen=True)
class _Scored:
    """CIDEr of each event and its video; of each moment, whether the text is true, and its video; decodes and seconds
    of each video."""

    scores: npt.NDArray[np.float64]
    videos: list[Path]
    true: npt.NDArray[np.float64]
    true_videos: list[Path]
    decodes: npt.NDArray[np.float64]
    seconds: float

    def figures(self, every: int | None) -> RateFigures:
        return RateFigures(
            every,
            60 * float(self.decodes.sum()) / self.seconds if self.seconds else 0.0,
            mean(self.scores, self.videos),
            mean(self.true, self.true_videos),
        )


def _scored(cider: Cider, events: Mapping[Path, Sequence[AnnotatedEvent]], said: Mapping[Path, Said]) -> _Scored:
    scores, videos, true, true_videos = list[float](), list[Path](), list[bool](), list[Path]()
    for video, each in said.items():
        texts = [(date, plain(text)) for date, text in each.texts]
        scores += nearest_scores(cider, len(scores), events[video], texts)
        videos += [video] * (len(scores) - len(videos))
        true += truths(events[video], texts)
        true_videos += [video] * (len(true) - len(true_videos))
    decodes = np.array([each.decodes for each in said.values()], np.float64)
    seconds = sum(each.seconds for each in said.values())
    return _Scored(np.array(scores), videos, np.array(true, np.float64), true_videos, decodes, seconds)
