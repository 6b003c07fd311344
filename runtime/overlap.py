"""Work that goes on while its results are used: capture beside the encoder, the encoder beside the decoder."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from typing import TypeVar

Item = TypeVar("Item")

_PATIENCE = 5.0  # seconds for a thread to notice that nobody wants more: a camera's read can block for good


def ahead(items: Iterable[Item], room: int, dropped: Callable[[], None] | None = None) -> Generator[Item, None, None]:
    """The same items in the same order, made by a thread of its own before they are asked for.

    Args:
        room: items that may wait. When they do, the thread waits as well;
        dropped: or, where this is given, the oldest item gives way to the new one and this is called.

    Raises:
        Whatever the iteration raised, after everything before it has come out.
    """
    waiting: deque[Item] = deque()
    change = threading.Condition()
    ended, stopped = False, False
    failure: BaseException | None = None

    def work() -> None:
        nonlocal ended, failure
        iterator = iter(items)
        try:
            for item in iterator:
                with change:
                    while len(waiting) >= room and not stopped:
                        if dropped is None:
                            change.wait()
                        else:
                            waiting.popleft()
                            dropped()
                    if stopped:
                        break
                    waiting.append(item)
                    change.notify_all()
        except BaseException as error:  # raised again where the items are used
            failure = error
        finally:
            close = getattr(iterator, "close", None)  # a generator is closed by the thread that ran it
            if close is not None:
                close()
            with change:
                ended = True
                change.notify_all()

    thread = threading.Thread(target=work, name="vlj-edge ahead", daemon=True)
    thread.start()
    try:
        while True:
            with change:
                change.wait_for(lambda: waiting or ended)
                if not waiting:
                    break
                item = waiting.popleft()
                change.notify_all()
            yield item
        if failure is not None:
            raise failure
    finally:
        with change:
            stopped = True
            change.notify_all()
        thread.join(_PATIENCE)
