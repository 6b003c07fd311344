"""Search a store for the moments nearest to an embedding, and join neighbouring windows into one moment."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from vlj_edge.errors import VljEdgeError, WrongCall
from vlj_edge.presets import Clip
from vlj_edge.results import Moment

from ..model import Model
from ..video.source import Source
from ..video.uri import open_source
from .moments import Hit, arguments_of
from .snapshot import Snapshot
from .store import Store

Embedding = npt.NDArray[np.float32]
Around: TypeAlias = "Callable[[Hit, int], list[Hit]]"

_MAX_HITS = 20_000  # windows examined for one search
# windows on each side of a hit that are searched for the moment's bounds; doubled until they are found
_REACH = 32


def search(
    store: Store, embedding: Embedding, top: int = 10, exclude: Hit | None = None, min_score: float | None = None
) -> list[Moment]:
    """Return the moments nearest to an embedding, nearest first. No two overlap; none, if nothing is near enough.

    A moment is the nearest window with the neighbours that are at least half as likely, by the bundle's temperature.
    One half gives the best bounds of events (results/wearable.json).

    Args:
        embedding: float32 [embedding], unit length: Model.embed_text(), or embedding_at().
        top: number of moments; fewer if the store has no more.
        exclude: leave out moments that overlap with this one.
        min_score: leave out moments with a lower score, 0..1; 0: none are left out; None: the bundle's floor for texts
            (LabelSettings.search_floor), where it has one.

    Raises:
        VljEdgeError: min_score is out of its range, or the store cannot be read.
    """
    if min_score is not None and not 0 <= min_score <= 1:
        raise WrongCall(f"min_score is {min_score:g}: give a cosine from 0 (everything is found) to 1")
    slack = store.temperature * math.log(2)
    moments = store.read(lambda seen: _search(seen, embedding, slack, top, exclude))
    floor = lowest_score(store, min_score)
    return [moment for moment in moments if moment.score >= floor]


def lowest_score(store: Store, min_score: float | None) -> float:
    """Return the score, -inf..1, below which search() finds nothing. Arguments as for search()."""
    floor = store.search_floor if min_score is None else min_score or -1.0
    return floor if floor > -1 else -math.inf


def _search(seen: Snapshot, embedding: Embedding, slack: float, top: int, exclude: Hit | None) -> list[Moment]:
    def around(hit: Hit, reach: int) -> list[Hit]:
        return seen.neighbours(hit, embedding, reach)

    count = 8 * top
    while True:
        hits = seen.nearest(embedding, count, exclude)
        moments = merge_hits(hits, around, slack, top, [exclude] if exclude is not None else [])
        if len(moments) == top or len(hits) < count or count >= _MAX_HITS:
            return [replace(each, thumbnail=seen.thumbnail(each.file, each.best_start)) for each in moments]
        count = min(4 * count, _MAX_HITS)  # too few moments: the hits belong to a few long ones


def merge_hits(hits: Sequence[Hit], around: Around, slack: float, top: int, taken: Sequence[Hit] = ()) -> list[Moment]:
    """Return at most `top` moments, best first: each is the best remaining window with the neighbours whose cosine is
    at most `slack` lower. No two overlap, and none overlaps with `taken`.

    Args:
        hits: best first.
        around: returns a hit's window and a number of windows before and after it in its video, in order.
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
    """Return start and end (seconds) of the moment of a hit."""
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
    """Return the neighbours that belong to a hit, in one direction, nearest first."""
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
    """Return the embedding of a video at a time (seconds), float32 [embedding], and its window: from the store if it
    is there, otherwise encoded from the file.

    Raises:
        VljEdgeError: the file does not exist, or ends before that time.
    """
    stored = _stored_at(store, video, time)
    if stored is not None:
        return stored[1], stored[0]
    source = _open_moment(store, video, time, model.manifest.clip)
    with closing(model.embed(source, query=store.query or None, every_window=True)) as items:
        for item in items:
            if not item.window.start <= time <= item.window.end:
                break
            return item.embedding, Hit(str(Path(video).absolute()), item.window.start, item.window.end, 1.0)
    raise VljEdgeError(f"{Path(video).absolute()} has nothing at {time:g} s: name a time before its end")


def check_moment(store: Store, video: str | Path, time: float, clip: Clip) -> None:
    """Check, before a model is opened, that embedding_at() has something to look at.

    Raises:
        VljEdgeError: the store has no such moment, and the file does not exist, or ends before that time.
    """
    if _stored_at(store, video, time) is None:
        _open_moment(store, video, time, clip).close()


def _stored_at(store: Store, video: str | Path, time: float) -> tuple[Hit, Embedding] | None:
    absolute = str(Path(video).absolute())
    return store.embedding_at(str(video), time) or store.embedding_at(absolute, time)  # a camera has a name


def _open_moment(store: Store, video: str | Path, time: float, clip: Clip) -> Source:
    """Open the window of a video around a time (seconds), read as it was when it was stored."""
    path = Path(video).absolute()
    known = store.videos().get(str(path))
    reading = arguments_of(known.reading) if known is not None else {}
    length = clip.frames / clip.frames_per_second
    start = max(0.0, time - length / 2)
    part = {"start": start, "end": start + length}
    try:
        return open_source(path, sampled_at=clip.frames_per_second, **(reading | part))
    except VljEdgeError:
        with open_source(path, **reading) as whole:  # raises if the file itself cannot be read
            ends = whole.duration
        if ends is None or time <= ends:
            raise
        raise VljEdgeError(f"{path} ends at {ends:.1f} s, before {time:g} s: name an earlier time") from None
