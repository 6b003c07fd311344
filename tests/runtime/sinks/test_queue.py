"""An outlet neither blocks nor loses count, whatever its sink does."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable

import pytest

from vlj_edge.errors import VljEdgeError
from vlj_edge.results import Narration
from vlj_edge.runtime.sinks.base import Event, Refused
from vlj_edge.runtime.sinks.queue import SinkQueue

SOON = (0.001, 0.01)  # pauses between attempts, seconds


def event(number: int) -> Event:
    return Event("door", Narration(number - 1, number + 1, f"text {number}", "decoder"), 1.7e9 + number, number)


class Sink:
    """Keeps what it takes; `fails` raises or returns, `gate` holds it back while it is not set."""

    def __init__(self, fails: Callable[[Event], None] = lambda event: None) -> None:
        self.taken: list[int] = []
        self.attempts: list[int] = []
        self.threads: set[str] = set()
        self.closed = 0
        self.gate, self.busy = threading.Event(), threading.Event()
        self.gate.set()
        self._fails = fails

    def take(self, event: Event) -> None:
        self.threads.add(threading.current_thread().name)
        self.attempts.append(event.number)
        self.busy.set()
        self.gate.wait(120)
        self._fails(event)
        self.taken.append(event.number)

    def close(self) -> None:
        self.threads.add(threading.current_thread().name)
        self.closed += 1


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.002)


def held(capacity: int) -> tuple[Sink, SinkQueue]:
    """A sink that is busy with event 0 until its gate is opened."""
    sink = Sink()
    sink.gate.clear()
    outlet = SinkQueue("held", sink, capacity)
    outlet.put(event(0))
    assert sink.busy.wait(120)
    return sink, outlet


def test_an_event_is_plain_json() -> None:
    found = json.loads(json.dumps(event(3).as_dict()))
    assert found["source"] == "door" and found["number"] == 3 and found["clock"] == 1.7e9 + 3
    assert found["text"] == "text 3" and found["start"] == 2 and found["similarity"] is None


def test_events_arrive_in_order_in_one_other_thread() -> None:
    sink = Sink()
    outlet = SinkQueue("file", sink)
    for number in range(100):
        outlet.put(event(number))
    outlet.close()
    assert sink.taken == list(range(100))
    assert sink.threads == {"outlet file"}
    assert outlet.state() == {"name": "file", "queued": 0, "delivered": 100, "missed": 0, "last_error": None}


def test_put_never_waits_and_the_oldest_is_dropped() -> None:
    sink, outlet = held(capacity=3)
    for number in range(1, 11):
        outlet.put(event(number))  # would hang here
    assert outlet.state()["missed"] == 7
    assert outlet.state()["queued"] == 4  # three, and the one with the sink
    sink.gate.set()
    outlet.close()
    assert sink.taken == [0, 8, 9, 10]
    assert outlet.state()["delivered"] == 4


@pytest.mark.parametrize("error", [VljEdgeError("no room"), OSError("no room"), ValueError("no room")])
def test_a_sink_that_raises_is_counted_and_asked_again(error: Exception) -> None:
    def fails(event: Event) -> None:
        if event.number % 2:
            raise error

    sink = Sink(fails)
    outlet = SinkQueue("file", sink)
    for number in range(4):
        outlet.put(event(number))
    outlet.close()
    state = outlet.state()
    assert sink.taken == [0, 2]
    assert (state["delivered"], state["missed"], outlet.failed) == (2, 2, 2)
    assert state["last_error"].endswith("no room")


def test_last_error_is_one_line_without_credentials() -> None:
    def fails(event: Event) -> None:
        raise OSError("cannot reach\nhttp://anna:geheim@host/x?token=abc")

    outlet = SinkQueue("web", Sink(fails))
    outlet.put(event(1))
    outlet.close()
    line = outlet.state()["last_error"]
    assert "\n" not in line and "geheim" not in line and "abc" not in line and "host" in line


def test_with_retry_nothing_is_lost_within_the_bound() -> None:
    away = threading.Event()
    away.set()

    def fails(event: Event) -> None:
        if away.is_set():
            raise OSError("away")

    sink = Sink(fails)
    outlet = SinkQueue("web", sink, capacity=5, retry=True, pauses=SOON)
    for number in range(5):
        outlet.put(event(number))
    until(lambda: outlet.failed >= 3)
    assert set(sink.attempts) == {0}  # nothing overtakes it
    away.clear()
    until(lambda: len(sink.taken) == 5)
    outlet.close()
    assert sink.taken == [0, 1, 2, 3, 4]
    assert outlet.state()["missed"] == 0


def test_with_retry_too_the_oldest_is_dropped() -> None:
    def fails(event: Event) -> None:
        raise OSError("away")

    outlet = SinkQueue("web", Sink(fails), capacity=2, retry=True, pauses=SOON)
    for number in range(50):
        outlet.put(event(number))
    until(lambda: outlet.state()["missed"] == 48)
    outlet.close(timeout=0.05)
    assert outlet.state() == {"name": "web", "queued": 0, "delivered": 0, "missed": 50, "last_error": "away"}


@pytest.mark.parametrize("error", [Refused("no"), ValueError("a bug")])
def test_what_cannot_succeed_is_not_tried_again(error: Exception) -> None:
    def fails(event: Event) -> None:
        if event.number == 0:
            raise error

    sink = Sink(fails)
    outlet = SinkQueue("web", sink, retry=True, pauses=SOON)
    outlet.put(event(0))
    outlet.put(event(1))
    outlet.close()
    assert sink.attempts == [0, 1]
    assert outlet.state()["missed"] == 1


def test_pauses_double_up_to_the_longest_and_vary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vlj_edge.runtime.sinks.queue.random.uniform", lambda low, high: high)
    outlet = SinkQueue("web", Sink(), retry=True)
    pauses = []
    for row in range(9):
        outlet._in_a_row = row
        pauses.append(outlet._pause())
    outlet.close()
    assert pauses == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]


def test_close_tries_at_once_in_the_middle_of_a_pause() -> None:
    failures = iter([True])

    def fails(event: Event) -> None:
        if next(failures, False):
            raise OSError("away")

    sink = Sink(fails)
    outlet = SinkQueue("web", sink, retry=True, pauses=(3600, 3600))
    outlet.put(event(0))
    until(lambda: outlet.failed == 1)
    outlet.close(timeout=120)
    assert sink.taken == [0]


def test_close_gives_up_on_a_sink_that_hangs_and_counts_once() -> None:
    sink, outlet = held(capacity=10)
    outlet.put(event(1))
    outlet.close(timeout=0.05)
    assert outlet.state()["missed"] == 2 and outlet.state()["queued"] == 0
    assert sink.closed == 0  # not under its feet
    sink.gate.set()
    until(lambda: sink.closed == 1)
    assert outlet.state()["missed"] == 2 and outlet.state()["delivered"] == 0


def test_a_sink_that_hangs_is_interrupted_where_it_can_be() -> None:
    class Interruptible(Sink):
        def interrupt(self) -> None:
            self.gate.set()

    sink = Interruptible()
    sink.gate.clear()
    outlet = SinkQueue("speech", sink)
    outlet.put(event(0))
    assert sink.busy.wait(120)
    outlet.close(timeout=0.05)
    until(lambda: sink.closed == 1)


def test_closing_twice_is_once_and_later_events_are_missed() -> None:
    sink = Sink()
    outlet = SinkQueue("file", sink)
    outlet.put(event(0))
    outlet.close()
    outlet.close()
    outlet.put(event(1))
    assert sink.closed == 1 and sink.taken == [0]
    assert outlet.state()["missed"] == 1


def test_a_sink_that_fails_to_close_is_told() -> None:
    class Bad(Sink):
        def close(self) -> None:
            raise VljEdgeError("the end is missing")

    outlet = SinkQueue("video", Bad())
    outlet.close()
    assert outlet.state()["last_error"] == "the end is missing"


def test_what_a_sink_loses_after_taking_it_counts_as_missed() -> None:
    class Lossy(Sink):
        missed = 0
        last_error = "no broker"

        def close(self) -> None:
            self.missed = 2

    outlet = SinkQueue("mqtt", Lossy())
    for number in range(5):
        outlet.put(event(number))
    outlet.close()
    state = outlet.state()
    assert (state["delivered"], state["missed"], state["last_error"]) == (3, 2, "no broker")


def test_one_sink_does_not_hold_up_another() -> None:
    stuck, slow = held(capacity=1)
    sink = Sink()
    quick = SinkQueue("quick", sink)
    for number in range(20):
        slow.put(event(number))
        quick.put(event(number))
    quick.close()
    assert sink.taken == list(range(20))
    stuck.gate.set()
    slow.close()


def test_every_event_is_accounted_for_when_many_threads_put() -> None:
    sink = Sink(lambda event: time.sleep(0.0005))
    outlet = SinkQueue("busy", sink, capacity=4)
    threads = [threading.Thread(target=lambda: [outlet.put(event(n)) for n in range(200)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    outlet.close()
    state = outlet.state()
    assert state["delivered"] == len(sink.taken)
    assert state["delivered"] + state["missed"] == 800


def test_a_queue_of_nothing_is_refused() -> None:
    with pytest.raises(VljEdgeError, match="give 1 or more"):
        SinkQueue("file", Sink(), capacity=0)
