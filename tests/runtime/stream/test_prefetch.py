"""prefetch(): same items, order and errors as its input, for any timing of the threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlj_edge.runtime.stream.cancellation import Cancellation, Cancelled
from vlj_edge.runtime.stream.prefetch import prefetch


@given(items=st.lists(st.integers(), max_size=50), room=st.integers(1, 5))
def test_nothing_is_lost_or_reordered(items: list[int], room: int) -> None:
    assert list(prefetch(items, room, Cancellation())) == items


@given(count=st.integers(0, 60), room=st.integers(1, 4))
def test_what_gives_way_is_counted_and_the_newest_arrives(count: int, room: int) -> None:
    dropped: list[None] = []
    seen = list(prefetch(range(count), room, Cancellation(), lambda: dropped.append(None)))
    assert len(seen) + len(dropped) == count and seen == sorted(seen)
    assert not count or seen[-1] == count - 1


def test_no_more_is_made_than_there_is_room_for() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            yield number

    cancellation = Cancellation()
    running = prefetch(items(), 3, cancellation)
    assert next(running) == 0
    time.sleep(0.2)
    assert len(made) <= 5, "one was taken, three wait, one more is in the hand"
    cancellation.cancel()
    assert cancellation.join(120)
    assert len(made) <= 6


def test_an_error_comes_after_what_was_made_before_it() -> None:
    def items() -> Iterator[int]:
        yield from (1, 2)
        raise ValueError("no more")

    seen: list[int] = []
    with pytest.raises(ValueError, match="no more"):
        seen.extend(prefetch(items(), 5, Cancellation()))
    assert not seen or seen == [1, 2]
    running = prefetch(items(), 5, Cancellation())
    assert (next(running), next(running)) == (1, 2)
    with pytest.raises(ValueError, match="no more"):
        next(running)


def test_cancelling_closes_the_items_in_the_thread_that_ran_them_and_ends_it() -> None:
    threads: list[int] = []

    def items() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            threads.append(threading.get_ident())

    before, cancellation = threading.active_count(), Cancellation()
    running = prefetch(items(), 2, cancellation)
    next(running)
    cancellation.cancel()
    assert cancellation.join(120)
    assert threading.active_count() == before
    with pytest.raises(Cancelled):
        next(running)
    assert len(threads) == 1 and threads[0] != threading.get_ident()
