"""A sink queue never blocks, and its counts stay correct, if its sink is slow or fails."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.runtime.sinks.events import event
from tests.waiting import wait_for
from vlj_edge.errors import VljEdgeError
from vlj_edge.runtime.sinks.base import Event, EventRefused
from vlj_edge.runtime.sinks.queue import SinkQueue, close_all

SOON = (0.001, 0.01)  # pauses between attempts, seconds


class Sink:
    """Records the events it gets. `fails` may raise for an event; write() blocks while `gate` is not set."""

    def __init__(self, fails: Callable[[Event], None] = lambda event: None) -> None:
        self.written: list[int] = []
        self.attempts: list[int] = []
        self.threads: set[str] = set()
        self.closed = 0
        self.gate, self.busy = threading.Event(), threading.Event()
        self.gate.set()
        self._fails = fails

    def write(self, event: Event) -> None:
        self.threads.add(threading.current_thread().name)
        self.attempts.append(event.number)
        self.busy.set()
        self.gate.wait(120)
        self._fails(event)
        self.written.append(event.number)

    def close(self) -> None:
        self.threads.add(threading.current_thread().name)
        self.closed += 1


def busy_sink(capacity: int) -> tuple[Sink, SinkQueue]:
    """A sink that is busy with event 0 until its gate is opened."""
    sink = Sink()
    sink.gate.clear()
    queue = SinkQueue("busy", sink, capacity)
    queue.put(event(0))
    assert sink.busy.wait(120)
    return sink, queue


def test_an_event_is_plain_json() -> None:
    found = json.loads(json.dumps(event(3).as_dict()))
    assert found["source"] == "door" and found["number"] == 3 and found["clock"] == 1.7e9
    assert found["id"] == event(3).id
    assert found["text"] == "text 3" and found["start"] == 2 and found["similarity"] is None


def test_no_two_events_have_the_same_id() -> None:
    first = event(1)
    others = [event(2), event(1, source="hall"), replace(first, clock=first.clock + 60)]  # the last after a restart
    assert len({each.id for each in (first, *others)}) == 4
    assert replace(first, end=3.0).id == first.id == event(1).id, "it is the same event when it is sent again"


def test_events_arrive_in_order_in_one_other_thread() -> None:
    sink = Sink()
    queue = SinkQueue("file", sink)
    for number in range(100):
        queue.put(event(number))
    queue.close()
    assert sink.written == list(range(100))
    assert sink.threads == {"sink file"}
    counts = {"queued": 0, "delivered": 100, "missed": 0, "refused": 0}
    assert queue.state() == {"name": "file", "last_error": None} | counts


def test_put_never_waits_and_the_oldest_is_dropped() -> None:
    sink, queue = busy_sink(capacity=3)
    for number in range(1, 11):
        queue.put(event(number))  # would hang here
    assert queue.state()["missed"] == 7
    assert queue.state()["queued"] == 4  # three, and the one with the sink
    sink.gate.set()
    queue.close()
    assert sink.written == [0, 8, 9, 10]
    assert queue.state()["delivered"] == 4


@pytest.mark.parametrize("error", [VljEdgeError("no room"), OSError("no room"), ValueError("no room")])
def test_a_sink_that_raises_is_counted_and_used_again(error: Exception) -> None:
    def fails(event: Event) -> None:
        if event.number % 2:
            raise error

    sink = Sink(fails)
    queue = SinkQueue("file", sink)
    for number in range(4):
        queue.put(event(number))
    queue.close()
    state = queue.state()
    assert sink.written == [0, 2]
    assert (state["delivered"], state["missed"], queue.failed) == (2, 2, 2)
    assert state["last_error"].endswith("no room")


def test_last_error_is_one_line_without_credentials() -> None:
    def fails(event: Event) -> None:
        raise OSError("cannot reach\nhttp://anna:geheim@host/x?token=abc")

    queue = SinkQueue("web", Sink(fails))
    queue.put(event(1))
    queue.close()
    line = queue.state()["last_error"]
    assert "\n" not in line and "geheim" not in line and "abc" not in line and "host" in line


@pytest.mark.parametrize("error", [OSError("away"), MemoryError()])
def test_with_retry_nothing_is_lost_within_the_bound(error: Exception) -> None:
    away = threading.Event()
    away.set()

    def fails(event: Event) -> None:
        if away.is_set():
            raise error

    sink = Sink(fails)
    queue = SinkQueue("web", sink, capacity=5, retry=True, pauses=SOON)
    for number in range(5):
        queue.put(event(number))
    wait_for(lambda: queue.failed >= 3)
    assert set(sink.attempts) == {0}  # nothing overtakes it
    away.clear()
    wait_for(lambda: len(sink.written) == 5)
    queue.close()
    assert sink.written == [0, 1, 2, 3, 4]
    assert queue.state()["missed"] == 0


def test_with_retry_too_the_oldest_is_dropped() -> None:
    def fails(event: Event) -> None:
        raise OSError("away")

    queue = SinkQueue("web", Sink(fails), capacity=2, retry=True, pauses=SOON)
    for number in range(50):
        queue.put(event(number))
    wait_for(lambda: queue.state()["missed"] == 48)
    queue.close(timeout=0.05)
    counts = {"queued": 0, "delivered": 0, "missed": 50, "refused": 0}
    assert queue.state() == {"name": "web", "last_error": "away"} | counts


@pytest.mark.parametrize("error", [EventRefused("no"), ValueError("a bug")])
def test_an_event_that_can_never_succeed_is_not_tried_again(error: Exception) -> None:
    def fails(event: Event) -> None:
        if event.number == 0:
            raise error

    sink = Sink(fails)
    queue = SinkQueue("web", sink, retry=True, pauses=SOON)
    queue.put(event(0))
    queue.put(event(1))
    queue.close()
    assert sink.attempts == [0, 1]
    assert queue.state()["missed"] == 1


def test_pauses_double_up_to_the_longest_and_vary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vlj_edge.runtime.sinks.queue.random.uniform", lambda low, high: high)
    queue = SinkQueue("web", Sink(), retry=True)
    pauses = []
    for row in range(9):
        queue._failures_in_a_row = row
        pauses.append(queue._pause())
    queue.close()
    assert pauses == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]


def test_close_tries_at_once_in_the_middle_of_a_pause() -> None:
    failures = iter([True])

    def fails(event: Event) -> None:
        if next(failures, False):
            raise OSError("away")

    sink = Sink(fails)
    queue = SinkQueue("web", sink, retry=True, pauses=(3600, 3600))
    queue.put(event(0))
    wait_for(lambda: queue.failed == 1)
    queue.close(timeout=120)
    assert sink.written == [0]


def test_close_gives_up_on_a_sink_that_hangs_and_counts_once() -> None:
    sink, queue = busy_sink(capacity=10)
    queue.put(event(1))
    queue.close(timeout=0.05)
    assert queue.state()["missed"] == 2 and queue.state()["queued"] == 0
    assert sink.closed == 0  # not under its feet
    sink.gate.set()
    wait_for(lambda: sink.closed == 1)
    assert queue.state()["missed"] == 2 and queue.state()["delivered"] == 0


def test_a_sink_that_hangs_is_interrupted_where_it_can_be() -> None:
    class Interruptible(Sink):
        def interrupt(self) -> None:
            self.gate.set()

    sink = Interruptible()
    sink.gate.clear()
    queue = SinkQueue("speech", sink)
    queue.put(event(0))
    assert sink.busy.wait(120)
    queue.close(timeout=0.05)
    wait_for(lambda: sink.closed == 1)


def test_sinks_that_hang_are_closed_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SinkQueue.close, "__defaults__", (1.0,))
    hanging = [busy_sink(capacity=3) for _ in range(12)]
    prompt = Sink()
    queues = [*(queue for _, queue in hanging), SinkQueue("file", prompt)]
    for queue in queues:
        queue.put(event(1))
    began = time.monotonic()
    close_all(queues)
    close_all(queues)
    assert time.monotonic() - began < 9, "one after another they take 18 s"
    assert [queue.state()["missed"] for queue in queues] == [2] * 12 + [0] and prompt.closed == 1
    for sink, _ in hanging:
        sink.gate.set()
    wait_for(lambda: all(sink.closed for sink, _ in hanging))


def test_a_sink_with_events_left_is_told_that_its_time_is_over() -> None:
    class Interruptible(Sink):
        interrupted = False

        def interrupt(self) -> None:
            self.interrupted = True

    def fails(event: Event) -> None:
        raise VljEdgeError("nobody answers")

    left, done = Interruptible(fails), Interruptible()
    queues = [SinkQueue("left", left, retry=True, pauses=(60, 60)), SinkQueue("done", done)]
    for queue in queues:
        queue.put(event(1))
    wait_for(lambda: left.attempts and done.written)
    queues[0].close(0.1)
    queues[1].close()
    assert left.interrupted and not done.interrupted and left.closed == 1


def test_closing_twice_is_once_and_later_events_are_missed() -> None:
    sink = Sink()
    queue = SinkQueue("file", sink)
    queue.put(event(0))
    queue.close()
    queue.close()
    queue.put(event(1))
    assert sink.closed == 1 and sink.written == [0]
    assert queue.state()["missed"] == 1


def test_a_sink_that_fails_to_close_is_reported() -> None:
    class Bad(Sink):
        def close(self) -> None:
            raise VljEdgeError("the end is missing")

    queue = SinkQueue("video", Bad())
    queue.close()
    assert queue.state()["last_error"] == "the end is missing"


def test_events_that_a_sink_loses_later_count_as_missed() -> None:
    class Lossy(Sink):
        missed = 0
        last_error = "no broker"

        def close(self) -> None:
            self.missed = 2

    queue = SinkQueue("mqtt", Lossy())
    for number in range(5):
        queue.put(event(number))
    queue.close()
    state = queue.state()
    assert (state["delivered"], state["missed"], state["last_error"]) == (3, 2, "no broker")


def test_one_sink_does_not_hold_up_another() -> None:
    stuck, slow = busy_sink(capacity=1)
    sink = Sink()
    quick = SinkQueue("quick", sink)
    for number in range(20):
        slow.put(event(number))
        quick.put(event(number))
    quick.close()
    assert sink.written == list(range(20))
    stuck.gate.set()
    slow.close()


def test_every_event_is_accounted_for_when_many_threads_put() -> None:
    sink = Sink(lambda event: time.sleep(0.0005))
    queue = SinkQueue("busy", sink, capacity=4)
    threads = [threading.Thread(target=lambda: [queue.put(event(n)) for n in range(200)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    queue.close()
    state = queue.state()
    assert state["delivered"] == len(sink.written)
    assert state["delivered"] + state["missed"] == 800


def test_a_queue_without_capacity_is_an_error() -> None:
    with pytest.raises(VljEdgeError, match="file"):
        SinkQueue("file", Sink(), capacity=0)
