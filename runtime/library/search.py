"""A sentence or a moment in, moments of the library out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vlj_edge.errors import VljEdgeError
from vlj_edge.results import Moment
from vlj_edge.runtime.pipeline import Model
from vlj_edge.runtime.sources import Frame, Source, open_source

from .store import Hit, Store

Embedding = npt.NDArray[np.float32]

_MOST = 20_000  # windows that are looked through for the moments that were asked for


def search(store: Store, embedding: Embedding, top: int = 10, without: Hit | None = None) -> list[Moment]:
    """The moments that are nearest to an embedding, the nearest first.

    Windows overlap, so that neighbours are found together: those that touch are one moment, with the best one's score.

    Args:
        embedding: float32 [embedding], unit length: Model.embed_text(), or embedding_at().
        top: moments; fewer where the library has no more.
        without: leave out what overlaps with this.
    """
    count = 8 * top
    while True:
        hits = store.nearest(embedding, count, without)
        moments = join(hits)
        if len(moments) >= top or len(hits) < count or count >= _MOST:
            return moments[:top]
        count = min(4 * count, _MOST)


def join(hits: list[Hit]) -> list[Moment]:
    """Hits of one video that overlap or touch, as one moment each; the best first."""
    moments: list[Moment] = []
    for hit in sorted(hits, key=lambda hit: (hit.path, hit.start)):
        last = moments[-1] if moments else None
        if last is not None and last.file == hit.path and hit.start <= last.end:
            best = max(last, Moment(hit.path, hit.start, hit.end, hit.score, hit.start, hit.end), key=lambda m: m.score)
            moments[-1] = Moment(
                last.file, last.start, max(last.end, hit.end), best.score, best.best_start, best.best_end
            )
        else:
            moments.append(Moment(hit.path, hit.start, hit.end, hit.score, hit.start, hit.end))
    return sorted(moments, key=lambda moment: -moment.score)


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
