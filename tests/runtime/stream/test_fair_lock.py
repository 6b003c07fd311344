"""FairLock: one holder at a time, in order of request, also with interrupted waiters."""

from __future__ import annotations

import signal
import threading
import time

import pytest

from tests.waiting import wait_for
from vlj_edge.runtime.stream.fair_lock import FairLock


def test_threads_are_served_in_the_order_in_which_they_asked() -> None:
    lock, order, holding = FairLock(), list[int](), threading.Event()

    def work(number: int) -> None:
        with lock:
            order.append(number)

    def hold() -> None:
        with lock:
            holding.set()
            wait_for(lambda: len(lock._queue) == 6)

    threads = [threading.Thread(target=hold)]
    threads[0].start()
    holding.wait(120)
    for number in range(5):
        threads.append(threading.Thread(target=work, args=(number,)))
        threads[-1].start()
        wait_for(lambda number=number: len(lock._queue) >= number + 2 or order)
    for thread in threads:
        thread.join(120)
    assert order == [0, 1, 2, 3, 4] and not lock._queue


def test_only_one_holds_it() -> None:
    lock, inside, most = FairLock(), 0, 0

    def work() -> None:
        nonlocal inside, most
        for _ in range(200):
            with lock:
                inside += 1
                most = max(most, inside)
                time.sleep(0)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert most == 1 and not lock._queue


@pytest.mark.signals
def test_ctrl_c_while_waiting_gives_the_place_up() -> None:
    lock, release = FairLock(), threading.Event()

    def hold() -> None:
        with lock:
            release.wait(120)

    def strike_once_two_wait() -> None:
        wait_for(lambda: len(lock._queue) == 2)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    holder = threading.Thread(target=hold)
    holder.start()
    wait_for(lambda: lock._queue)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        striker = threading.Thread(target=strike_once_two_wait)
        with pytest.raises(KeyboardInterrupt):
            striker.start()
            with lock:
                pass
    finally:
        signal.signal(signal.SIGINT, before)
        release.set()
    holder.join(120)
    striker.join(120)
    with lock:
        assert len(lock._queue) == 1
    assert not lock._queue
