"""A sentence or a moment in, moments of the library out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vlj_edge.errors import VljEdgeError
from vlj_edge.results import Moment
from vlj_edge.runtime.pipeline import Model
from vlj_edge.runtime.sources import Frame, Source
from vlj_edge.runtime.uris import open_source

from .store import Hit, Store

Embedding = npt.NDArray[np.float32]

_MOST = 20_000  # windows that are looked through for the moments that were asked for


def search(store: Store, embedding: Embedding, top: int = 10, without: Hit | None = None) -> list[Moment]:
    """The moments that are nearest to an embedding, the nearest first.

    A moment is the window that is nearest, with those before and after it for as long as they are at least half as
    likely, by the bundle's temperature. Half is what found the bounds of events best (results/library.json).

    Args:
        embedding: float32 [embedding], unit length: Model.embed_text(), or embedding_at().
        top: moments; fewer where the library has no more.
        without: leave out what overlaps with this.
    """
    slack = store.temperature * math.log(2)
    count = 8 * top
    while True:
        hits = store.nearest(embedding, count, without)
        moments = join(hits, slack, top)
        found_all = len(moments) == top and hits[-1].score < moments[-1].score - slack
        if found_all or len(hits) < count or count >= _MOST:
            return moments
        count = min(4 * count, _MOST)


def join(hits: list[Hit], slack: float, top: int) -> list[Moment]:
    """At most `top` moments, the best first: each the best window that is left, and its neighbours for as long as they
    are not more than `slack` (cosine) below it. No two overlap."""
    placed = sorted(hits, key=lambda hit: (hit.path, hit.start))
    free = [True] * len(placed)
    moments: list[Moment] = []

    def reach(best: int, step: int) -> int:
        at = best
        while 0 <= at + step < len(placed):
            here, there = placed[at], placed[at + step]
            touches = here.path == there.path and max(here.start, there.start) <= min(here.end, there.end)
            if not touches or not free[at + step] or there.score < placed[best].score - slack:
                break
            at += step
        return at

    for best in sorted(range(len(placed)), key=lambda number: -placed[number].score):
        if len(moments) == top:
            break
        if not free[best]:
            continue
        first, last = reach(best, -1), reach(best, 1)
        hit, start = placed[best], placed[first].start
        end = max(each.end for each in placed[first : last + 1])
        for number, each in enumerate(placed):
            if each.path == hit.path and each.start < end and each.end > start:
                free[number] = False
        moments.append(Moment(hit.path, start, end, hit.score, hit.start, hit.end))
    return moments


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
