"""Items made ahead in a thread: capture runs beside the encoder, the encoder beside the decoder."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from .cancellation import WAKE, Cancellation, Cancelled

Item = TypeVar("Item")


@dataclass(frozen=True)
class _End:
    """The last entry of a queue: what ended the iteration, None if it simply ended."""

    error: BaseException | None = None


class Aside:
    """An item that another thread puts into the queue of a prefetch(), where it takes no room."""


def prefetch(
    items: Iterable[Item],
    room: int,
    cancellation: Cancellation,
    on_drop: Callable[[], None] | None = None,
    also: SimpleQueue[Any] | None = None,
) -> Generator[Item, None, None]:
    """Yield the same items in the same order, made by a thread of its own before they are asked for.

    The thread starts with the first item that is asked for and ends with the iteration or the cancellation. Ctrl-C may
    interrupt the consumer anywhere, so no lock is held in Python code: a get or put of SimpleQueue is atomic.

    Args:
        room: items that may wait. When so many do, the thread waits as well,
        on_drop: or, where this is given, the oldest item makes room for the new one and this is called.
        also: the queue that the items go through; what other threads put into it, an Aside each, is yielded, too.

    Raises:
        Cancelled: the run is being closed.
        BaseException: whatever the iteration raised, after everything before it was yielded.
    """
    ready: SimpleQueue[Any] = SimpleQueue() if also is None else also
    places: SimpleQueue[None] = SimpleQueue()
    for _ in range(room):
        places.put(None)

    def put(item: Item) -> None:
        if on_drop is None:
            places.get()
            cancellation.check()
        elif ready.qsize() >= room:
            _drop_oldest(ready, on_drop)
        ready.put(item)

    worker = threading.Thread(
        target=lambda: ready.put(_work(items, put, cancellation)), name="vlj-edge prefetch", daemon=True
    )
    cancellation.start(worker, ready, places)
    while True:
        entry = ready.get()
        cancellation.check()
        if isinstance(entry, _End):
            if entry.error is not None:
                raise entry.error
            return
        if on_drop is None and not isinstance(entry, Aside):
            places.put(None)
        yield entry


def _work(items: Iterable[Item], put: Callable[[Item], None], cancellation: Cancellation) -> _End:
    """Put every item; return the end marker with the error that ended the iteration, if any."""
    try:
        iterator = iter(items)
        try:
            for item in iterator:
                cancellation.check()
                put(item)
        finally:
            close = getattr(iterator, "close", None)  # a generator is closed by the thread that ran it
            if close is not None:
                close()
    except Cancelled:
        return _End()
    except BaseException as error:  # raised again where the items are used
        return _End(error)
    return _End()


def _drop_oldest(ready: SimpleQueue[Any], on_drop: Callable[[], None]) -> None:
    try:
        oldest = ready.get_nowait()
    except Empty:  # it was taken just now
        return
    if oldest is WAKE:
        ready.put(WAKE)
    else:
        on_drop()
