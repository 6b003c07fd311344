"""Work that goes on while its results are used: capture beside the encoder, the encoder beside the decoder."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from queue import SimpleQueue
from typing import TypeVar

Item = TypeVar("Item")

_PATIENCE = 5.0  # seconds for a thread to notice that nobody wants more: a camera's read can block for good


def prefetch(
    items: Iterable[Item], room: int, dropped: Callable[[], None] | None = None
) -> Generator[Item, None, None]:
    """The same items in the same order, made by a thread of its own before they are asked for.

    Ctrl-C may strike the consumer anywhere, so nothing here holds a lock in Python: SimpleQueue's get and put are
    whole, or have not happened.

    Args:
        room: items that may wait. When they do, the thread waits as well;
        dropped: or, where this is given, the oldest item gives way to the new one and this is called.

    Raises:
        Whatever the iteration raised, after everything before it has come out.
    """
    waiting: deque[Item] = deque()
    news: SimpleQueue[bool] = SimpleQueue()  # True for an item, False for the end
    places: SimpleQueue[None] = SimpleQueue()
    stop = threading.Event()
    failures: list[BaseException] = []
    for _ in range(room):
        places.put(None)

    def work() -> None:
        iterator = iter(items)
        try:
            for item in iterator:
                if dropped is None:
                    places.get()
                elif len(waiting) >= room:
                    _drop_oldest(waiting, dropped)
                if stop.is_set():
                    break
                waiting.append(item)
                news.put(True)
        except BaseException as error:  # raised again where the items are used
            failures.append(error)
        finally:
            close = getattr(iterator, "close", None)  # a generator is closed by the thread that ran it
            if close is not None:
                close()
            news.put(False)

    thread = threading.Thread(target=work, name="vlj-edge ahead", daemon=True)
    thread.start()
    try:
        while news.get():
            try:
                item = waiting.popleft()
            except IndexError:  # it was dropped
                continue
            places.put(None)
            yield item
        if failures:
            raise failures[0]
    finally:
        stop.set()
        places.put(None)
        thread.join(_PATIENCE)


def _drop_oldest(waiting: deque[Item], dropped: Callable[[], None]) -> None:
    try:
        waiting.popleft()
    except IndexError:  # it was taken just now
        return
    dropped()
