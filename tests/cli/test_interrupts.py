"""Ctrl-C: at once outside a held-back block, at its end inside one."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from vlj_edge.cli.interrupts import catch, held_back


@pytest.fixture(autouse=True)
def caught() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    catch()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_held_back_block_is_done_whole(number: signal.Signals) -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), held_back():
        os.kill(os.getpid(), number)
        done.append("first")
        with held_back():
            done.append("inner")
        done.append("last")
    assert done == ["first", "inner", "last"]
    with held_back():
        done.append("not struck again")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_elsewhere_it_strikes_at_once(number: signal.Signals) -> None:
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), number)
        pytest.fail("the signal did not strike")
