"""SIGHUPs are answered in order, none is lost, and the last answer begins after the last signal."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from tests.waiting import wait_for
from vlj_edge.cli.hangups import Hangups

pytestmark = pytest.mark.signals


def hang_up(times: int = 1) -> None:
    for _ in range(times):
        os.kill(os.getpid(), signal.SIGHUP)


def test_one_that_comes_before_the_answer_is_answered_and_later_ones_too() -> None:
    answers: list[int] = []
    before = signal.getsignal(signal.SIGHUP)
    with Hangups() as hangups:
        hang_up(2)
        hangups.answer(lambda: answers.append(0))
        wait_for(lambda: answers)
        hang_up()
        wait_for(lambda: len(answers) >= 2)
    assert 2 <= len(answers) <= 3 and signal.getsignal(signal.SIGHUP) is before
    assert not any(thread.name == "hangups" for thread in threading.enumerate())


def test_what_changes_during_an_answer_is_read_by_the_next() -> None:
    newest, read = [0], list[int]()
    reading, go_on = threading.Event(), threading.Event()

    def answer() -> None:
        read.append(newest[0])
        reading.set()
        go_on.wait(60)

    with Hangups() as hangups:
        hangups.answer(answer)
        hang_up()
        assert reading.wait(60)
        for number in range(1, 50):
            newest[0] = number
            hang_up()
        assert read == [0], "one at a time"
        go_on.set()
        wait_for(lambda: read[-1] == 49)
    assert read == sorted(read) and len(read) <= 3, "those that came together are one"
