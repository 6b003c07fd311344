"""A sentence or a moment in, moments of the library out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from vlj_edge.errors import VljEdgeError
from vlj_edge.results import Moment

from ..model import Model
from ..video.source import Frame, Source
from ..video.uri import open_source
from .store import Hit, Store

Embedding = npt.NDArray[np.float32]
Around: TypeAlias = "Callable[[Hit, int], list[Hit]]"

_MOST = 20_000  # windows that are looked through for the moments that were asked for
# Windows on each side in which a moment's bounds are looked for; if they are not there, in twice as many.
_REACH = 32


def search(store: Store, embedding: Embedding, top: int = 10, exclude: Hit | None = None) -> list[Moment]:
    """The moments that are nearest to an embedding, the nearest first; no two overlap.

    A moment is the window that is nearest, with those before and after it for as long as they are at least half as
    likely, by the bundle's temperature. Half is what found the bounds of events best (results/wearable.json).

    Args:
        embedding: float32 [embedding], unit length: Model.embed_text(), or embedding_at().
        top: moments; fewer where the library has no more.
        exclude: leave out what overlaps with this.
    """
    slack = store.temperature * math.log(2)

    def around(hit: Hit, reach: int) -> list[Hit]:
        return store.neighbours(hit, embedding, reach)

    count = 8 * top
    while True:
        hits = store.nearest(embedding, count, exclude)
        moments = merge_hits(hits, around, slack, top, [exclude] if exclude is not None else [])
        if len(moments) == top or len(hits) < count or count >= _MOST:
            return moments
        count = min(4 * count, _MOST)  # they are all of few long moments


def merge_hits(hits: Sequence[Hit], around: Around, slack: float, top: int, taken: Sequence[Hit] = ()) -> list[Moment]:
    """At most `top` moments, the best first: each the best window that is left, and its neighbours for as long as they
    are not more than `slack` (cosine) below it. No two overlap, nor does any with what is taken.

    Args:
        hits: the best first.
        around: a hit's window and so many before and after it in its video, in order.
    """
    moments: list[Moment] = []
    gone = list(taken)
    for hit in hits:
        if len(moments) == top:
            break
        if any(_overlap(hit, other) for other in gone):
            continue
        start, end = _bounds(hit, around, slack, gone)
        moments.append(Moment(hit.path, start, end, hit.score, hit.start, hit.end))
        gone.append(Hit(hit.path, start, end, hit.score))
    return moments


def _bounds(hit: Hit, around: Around, slack: float, gone: Sequence[Hit]) -> tuple[float, float]:
    """Where the moment of a hit begins and ends."""
    reach = _REACH
    while True:
        near = around(hit, reach)
        at = next(place for place, each in enumerate(near) if each.number == hit.number)
        before = _touching(hit, near[:at][::-1], hit.score - slack, gone)
        after = _touching(hit, near[at + 1 :], hit.score - slack, gone)
        if len(before) < reach and len(after) < reach:
            every = [hit, *before, *after]
            return min(each.start for each in every), max(each.end for each in every)
        reach *= 2


def _touching(hit: Hit, neighbours: Sequence[Hit], floor: float, gone: Sequence[Hit]) -> list[Hit]:
    """Those that belong to a hit, from it outwards in one direction."""
    found: list[Hit] = []
    start, end = hit.start, hit.end
    for each in neighbours:
        touches = each.start <= end and each.end >= start
        if not touches or each.score < floor or any(_overlap(each, other) for other in gone):
            break
        found.append(each)
        start, end = min(start, each.start), max(end, each.end)
    return found


def _overlap(one: Hit, other: Hit) -> bool:
    return one.path == other.path and one.start < other.end and one.end > other.start


def embedding_at(model: Model, store: Store, video: str | Path, time: float) -> tuple[Embedding, Hit]:
    """The embedding of a video at a time (seconds), float32 [embedding], and the moment that it is of: from the store
    where it has it, otherwise from the file.

    Raises:
        VljEdgeError: there is no such file, or it ends before that time.
    """
    path = Path(video).absolute()
    stored = store.embedding_at(str(path), time)
    if stored is not None:
        return stored[1], stored[0]
    clip = model.manifest.clip
    length = clip.frames / clip.frames_per_second
    start = max(0.0, time - length / 2)
    with (
        closing(open_source(path)) as frames,
        closing(model.embed(_Part(frames, start, start + length), query=store.query, every_window=True)) as items,
    ):
        for item in items:
            end = start + item.window.end
            if not start <= time <= end:
                break
            return item.embedding, Hit(str(path), start, end, 1.0)
    raise VljEdgeError(f"{path} has nothing at {time:g} s: name a time before its end")


class _Part(Source):
    """The frames of a stretch of a source, with times from its start."""

    def __init__(self, source: Source, start: float, end: float) -> None:
        self._source, self._start, self._end = source, start, end
        self.period = source.period

    def frames(self) -> Iterator[Frame]:
        """See Source."""
        for frame in self._source:
            if frame.time >= self._end:
                return
            if frame.time >= self._start:
                yield Frame(frame.time - self._start, frame.image)
