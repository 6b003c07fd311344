"""One event that a server always fails at holds up no other; a server that fails at all gets them in order later."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.runtime.sinks.events import event as text
from tests.runtime.sinks.test_refused_alerts import EVENT, REFUSED_SOON, SOON, Server, alert, queue_of, server
from tests.waiting import wait_for
from vlj_edge import VljEdgeError
from vlj_edge.runtime.alerts.journal import AlertJournal
from vlj_edge.runtime.sinks.alert_event import AlertEvent
from vlj_edge.runtime.sinks.base import AnyEvent, TryLater
from vlj_edge.runtime.sinks.queue import SinkQueue
from vlj_edge.runtime.sinks.webhook import Webhook

__all__ = ["server"]
Fails = Callable[[AnyEvent], bool]


class Picky:
    """A sink that fails at some events."""

    def __init__(self, fails: Fails, error: Exception | None = None) -> None:
        self.fails, self.error = fails, error or VljEdgeError("HTTP 500")
        self.tried, self.got = list[str](), list[str]()

    def write(self, event: AnyEvent) -> None:
        self.tried.append(event.id)
        if self.fails(event):
            raise self.error
        self.got.append(event.id)

    def close(self) -> None:
        pass


def journal_and_put(folder: Path, queue: SinkQueue, kept: bool) -> tuple[AlertJournal, Callable[[AlertEvent], None]]:
    journal = AlertJournal(folder / "alerts" if kept else None)
    journal.attach(queue, time.time())
    return journal, lambda event: queue.put(replace(event, kept=journal.add(event, "{}") and kept))


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("error", [VljEdgeError("HTTP 500"), TryLater("HTTP 503", 0.01), OSError("reset")])
@pytest.mark.parametrize("poison", [[0], [0, 1, 2, 3, 4, 5], [0, 2, 4, 6]])
def test_events_that_always_fail_hold_up_no_other(
    tmp_path: Path, kept: bool, error: Exception, poison: list[int]
) -> None:
    bad = {alert(number).id for number in poison}
    sink = Picky(lambda event: event.id in bad, error)
    queue = queue_of(sink)
    journal, put = journal_and_put(tmp_path, queue, kept)
    good = [alert(number).id for number in range(12) if number not in poison]
    for number in range(12):
        put(alert(number))
    wait_for(lambda: len(sink.got) == len(good))
    assert sorted(sink.got) == good
    wait_for(lambda: queue.state()["refused"] == len(bad))
    assert queue.state()["missed"] == 0 and queue.problem
    bad.clear()  # the server was mended
    wait_for(lambda: len(sink.got) == 12)
    wait_for(lambda: queue.problem is None and queue.state()["queued"] == 0)
    assert journal.count_after("webhook", 0) == 0
    queue.close()
    journal.close()


def test_a_text_that_always_fails_holds_up_no_alert(server: Server) -> None:
    server.fails = lambda body: b"text 7" in body
    queue = queue_of(Webhook(server.url))
    for event in (text(7), text(8), EVENT):
        queue.put(event)
    wait_for(lambda: queue.state()["delivered"] == 2)
    queue.close()
    assert queue.state()["missed"] == 1


def test_what_waits_aside_is_tried_seldom_and_again_after_a_restart(tmp_path: Path) -> None:
    bad = {alert(0).id}
    sink = Picky(lambda event: event.id in bad)
    queue = SinkQueue("webhook", sink, retry=True, pauses=SOON, refused_pauses=(3600, 3600))
    journal, put = journal_and_put(tmp_path, queue, True)
    put(alert(0))
    put(alert(1))
    wait_for(lambda: sink.got == [alert(1).id])
    tried = sink.tried.count(alert(0).id)
    for number in range(2, 9):
        put(alert(number))
    wait_for(lambda: len(sink.got) == 8)
    assert sink.tried.count(alert(0).id) == tried
    queue.close()
    journal.close()
    sink = Picky(lambda event: False)
    queue = queue_of(sink)
    journal, put = journal_and_put(tmp_path, queue, True)
    wait_for(lambda: sink.got == [alert(0).id])
    queue.close()
    journal.close()


@pytest.mark.parametrize("kept", [False, True])
def test_a_server_that_fails_for_long_gets_all_in_order(tmp_path: Path, kept: bool) -> None:
    away = True

    def fails(event: AnyEvent) -> bool:
        nonlocal away
        away = away and not (len(sink.tried) > 60 and event.id == alert(0).id)
        return away

    sink = Picky(fails)
    queue = SinkQueue("webhook", sink, retry=True, pauses=SOON, refused_pauses=(3600, 3600))
    journal, put = journal_and_put(tmp_path, queue, kept)
    for number in range(8):
        put(alert(number))
    wait_for(lambda: len(sink.got) == 8)
    assert len(set(sink.tried[:60])) > 3  # others were tried, too
    assert sink.got == [alert(number).id for number in range(8)]
    queue.close()
    journal.close()


def test_a_single_event_is_tried_as_often_as_ever() -> None:
    sink = Picky(lambda event: True)
    queue = SinkQueue("webhook", sink, retry=True, pauses=SOON, refused_pauses=(3600, 3600))
    queue.put(EVENT)
    wait_for(lambda: len(sink.tried) > 30)
    assert queue.state()["refused"] == 0
    queue.close(0.1)


def test_texts_that_wait_aside_are_bounded_and_go_before_alerts() -> None:
    sink = Picky(lambda event: not isinstance(event, AlertEvent) or event.event == alert(0).event)
    queue = SinkQueue("webhook", sink, capacity=3, retry=True, pauses=SOON, refused_pauses=REFUSED_SOON)
    queue.put(alert(0))
    for number in range(1, 30):
        queue.put(text(number))
        queue.put(alert(number))
        wait_for(lambda: queue.state()["queued"] - queue.state()["refused"] <= 1)
    wait_for(lambda: len(queue._refused) <= 3)
    assert alert(0).event in [
        getattr(event, "event", None) for event in [*queue._refused, *queue._queue, queue._current]
    ]
    queue.close()
