"""One pass over a source: what comes out, what was done until now, and the end, however it comes."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator
from typing import Generic, TypeVar

from vlj_edge.errors import VljEdgeError
from vlj_edge.results import Totals

from ..video.source import Source

Item = TypeVar("Item")


class Run(Iterator[Item], Generic[Item]):
    """One pass over a source: iterate over it once. Items come out as soon as they are decided.

    Raises, at the end of the iteration:
        VljEdgeError: the source broke off; everything before the break has come out.
    """

    def __init__(self, items: Generator[Item, None, None], source: Source, totals: Totals) -> None:
        self._items = _to_the_end(items, source)
        self._source = source
        self._totals = totals
        self._started = time.perf_counter()
        self._ended = False

    @property
    def live(self) -> bool:
        """Is it a camera?"""
        return self._source.live

    @property
    def totals(self) -> Totals:
        """What was done so far: right at any time, also after an interruption."""
        if not self._ended:
            self._totals.video_seconds = self._source.seconds
            self._totals.wall_seconds = time.perf_counter() - self._started
        return self._totals

    def __next__(self) -> Item:
        try:
            return next(self._items)
        except BaseException:  # the end, an error or Ctrl-C: in every case nothing comes after it
            self.close()
            raise

    def close(self) -> None:
        """Stop, and let go of the source. The totals stay."""
        _ = self.totals
        self._ended = True
        self._items.close()
        self._source.close()


def _to_the_end(items: Iterable[Item], source: Source) -> Generator[Item, None, None]:
    yield from items
    if source.incomplete is not None:  # only now, when everything before the break has been said
        raise VljEdgeError(source.incomplete)
