"""Alerts that a server refuses for its address or key wait until they are mended; what it never takes does not."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.runtime.sinks.events import event as text
from tests.waiting import wait_for
from vlj_edge import VljEdgeError
from vlj_edge.runtime.alerts.journal import AlertJournal
from vlj_edge.runtime.sinks.alert_event import AlertEvent, event_id
from vlj_edge.runtime.sinks.base import AddressRefused, EventRefused, Sink, TryLater
from vlj_edge.runtime.sinks.notify import Notify
from vlj_edge.runtime.sinks.queue import SinkQueue
from vlj_edge.runtime.sinks.webhook import Webhook

EVENT = AlertEvent("door", "hall", "start", event_id("door", "hall", 1.0), time.time(), 1.0, 0.9, b"\xff\xd8JPEG")
SOON, REFUSED_SOON = (0.001, 0.01), (0.02, 0.05)


def alert(number: int) -> AlertEvent:
    return replace(EVENT, event=f"{number:032}")


class Server(ThreadingHTTPServer):
    """Answers with `status`, what is in `answers` first, and 500 to bodies at which it fails; `got` has (content type,
    body) of each request."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status, self.answers, self.headers = 204, list[int](), dict[str, str]()
        self.got: list[tuple[str, bytes]] = []
        self.fails: Callable[[bytes], bool] = lambda body: False
        self.url = f"http://127.0.0.1:{self.server_address[1]}/secret"


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((self.headers["Content-Type"], body))
        status = self.server.answers.pop(0) if self.server.answers else self.server.status
        self.send_response(500 if self.server.fails(body) else status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as listening:
        thread = Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        yield listening
        listening.shutdown()
        thread.join()


class Door:
    """A sink that refuses events while `why` says so."""

    def __init__(self, error: Exception | None = None, poison: str = "") -> None:
        self.error, self.poison, self.tried, self.got = error, poison, list[str](), list[AlertEvent]()

    def write(self, event: AlertEvent) -> None:
        self.tried.append(event.event)
        if self.error is not None and (not self.poison or event.event == self.poison):
            raise self.error
        self.got.append(event)

    def close(self) -> None:
        pass


def queue_of(sink: Sink) -> SinkQueue:
    return SinkQueue("webhook", sink, retry=True, pauses=SOON, refused_pauses=REFUSED_SOON)


@pytest.mark.parametrize("status", [401, 402, 403, 404, 405, 407, 410])
def test_a_wrong_address_or_key_keeps_alerts_and_says_what_to_mend(server: Server, status: int) -> None:
    server.status = status
    queue = queue_of(Webhook(server.url))
    queue.put(EVENT)
    wait_for(lambda: len(server.got) > 1)
    wait_for(lambda: queue.state()["refused"] == 1)
    problem = queue.problem or ""
    assert f"HTTP {status}" in problem and "--webhook" in problem and "secret" not in problem
    assert queue.state()["missed"] == 0
    server.status = 204
    wait_for(lambda: queue.state()["delivered"] == 1)
    wait_for(lambda: queue.state()["refused"] == queue.state()["queued"] == 0)
    assert queue.problem is None
    queue.close()


@pytest.mark.parametrize("status", [400, 406, 409, 411, 413, 414, 415, 422, 451, 499])
def test_what_is_never_taken_is_lost_and_counted(server: Server, status: int) -> None:
    server.answers = [status, status]
    queue = queue_of(Webhook(server.url))
    queue.put(replace(EVENT, picture=None))
    wait_for(lambda: queue.state()["missed"] == 1)
    assert len(server.got) == 1 and f"HTTP {status}" in (queue.problem or "")
    queue.close()


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 507])
def test_what_passes_is_tried_again(server: Server, status: int) -> None:
    server.answers = [status] * 3
    queue = queue_of(Webhook(server.url))
    queue.put(EVENT)
    wait_for(lambda: queue.state()["delivered"] == 1)
    assert len(server.got) == 4
    queue.close()


def test_a_server_that_asks_for_time_gets_it(server: Server) -> None:
    server.status = 429
    for asked, least in (("7", 7.0), (formatdate(time.time() + 600, usegmt=True), 550.0), ("1e9", 3600.0)):
        server.headers = {"Retry-After": asked}
        with pytest.raises(TryLater) as caught:
            Webhook(server.url).write(EVENT)
        assert least <= caught.value.after <= 3600
    queue = queue_of(Webhook(server.url))
    queue.put(EVENT)
    wait_for(lambda: queue.problem)
    assert queue._not_before > time.monotonic() + 1000
    queue.close()
    server.headers = {"Retry-After": "soon"}
    with pytest.raises(Exception, match="429") as plain:
        Webhook(server.url).write(EVENT)
    assert not isinstance(plain.value, TryLater)


def test_a_server_that_takes_no_picture_gets_the_alert_without(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        for status in (400, 413, 415, 422):
            for sink in (hook := Webhook(server.url), note := Notify(server.url)):
                server.answers, server.got = [status], []
                sink.write(EVENT)
                assert [kind.split(";")[0] for kind, _ in server.got][1] in ("application/json", "text/plain")
                assert b"JPEG" in server.got[0][1] and b"JPEG" not in server.got[1][1]
        server.answers = [413]
        before = len(caplog.records)
        hook.write(replace(EVENT, kind="clip", picture=None, clip=b"MP4"))
    assert before == len(caplog.records) == 8  # once each
    server.answers = [413, 413]
    with pytest.raises(EventRefused, match="413"):
        note.write(EVENT)
    server.answers = [404]
    with pytest.raises(AddressRefused):
        hook.write(EVENT)


def test_all_come_once_the_key_is_right_and_few_are_tried_until_then(tmp_path: Path) -> None:
    journal, door = AlertJournal(tmp_path), Door(AddressRefused("HTTP 401"))
    queue = SinkQueue("webhook", door, retry=True, pauses=SOON, refused_pauses=(0.2, 0.2))
    journal.attach(queue, time.time())
    for number in range(30):
        queue.put(replace(alert(number), kept=journal.add(alert(number), "{}")))
    wait_for(lambda: len(door.tried) > 3)
    assert len(door.tried) < 15 and queue.state()["queued"] == 30
    door.error = None
    wait_for(lambda: len(door.got) == 30)
    assert sorted(each.event for each in door.got) == [alert(number).event for number in range(30)]
    assert all(each.picture == EVENT.picture for each in door.got)
    wait_for(lambda: queue.state()["queued"] == 0)
    queue.close()
    journal.close()


def test_refused_alerts_wait_over_a_restart(tmp_path: Path) -> None:
    journal, door = AlertJournal(tmp_path), Door(AddressRefused("HTTP 403"))
    queue = queue_of(door)
    journal.attach(queue, time.time())
    queue.put(replace(EVENT, kept=journal.add(EVENT, "{}")))
    wait_for(lambda: queue.state()["refused"] == 1)
    queue.close()
    assert queue.state()["missed"] == 0
    journal.close()
    journal, mended = AlertJournal(tmp_path), Door()
    queue = queue_of(mended)
    journal.attach(queue, time.time())
    wait_for(lambda: mended.got)
    assert [(each.id, each.picture) for each in mended.got] == [(EVENT.id, EVENT.picture)]
    queue.close()
    journal.close()


@pytest.mark.parametrize("kept", [False, True])
def test_one_that_is_refused_holds_up_no_other(tmp_path: Path, kept: bool) -> None:
    journal, door = AlertJournal(tmp_path if kept else None), Door(AddressRefused("HTTP 403"), alert(1).event)
    queue = queue_of(door)
    journal.attach(queue, time.time())
    for number in range(4):
        queue.put(replace(alert(number), kept=journal.add(alert(number), "{}") and kept))
    wait_for(lambda: len(door.got) == 3 and door.tried.count(alert(1).event) > 2)
    wait_for(lambda: queue.state()["refused"] == 1)
    assert (queue.state()["delivered"], queue.state()["missed"]) == (3, 0) and queue.problem
    queue.put(replace(alert(5), kept=journal.add(alert(5), "{}") and kept))
    wait_for(lambda: len(door.got) == 4)
    queue.close()
    assert queue.state()["missed"] == (0 if kept else 1)
    journal.close()


@pytest.mark.parametrize("kept", [False, True])
def test_several_that_are_refused_in_a_row_hold_up_no_other(kept: bool, tmp_path: Path) -> None:
    clip = replace(EVENT, kind="clip", clip=b"mp4")

    class TakesNoClip(Door):
        def write(self, event: AlertEvent) -> None:
            self.error = AddressRefused("HTTP 403") if event.kind == "clip" else None
            super().write(event)

    door, journal = TakesNoClip(), AlertJournal(tmp_path if kept else None)
    queue = queue_of(door)
    if kept:
        journal.attach(queue, time.time())

    def put(event: AlertEvent) -> None:
        queue.put(replace(event, kept=kept and journal.add(event, "{}")))

    for number in range(4):
        put(replace(clip, event=alert(number).event))
    wait_for(lambda: queue.state()["refused"] == 4)
    for number in range(10, 13):
        put(alert(number))
    wait_for(lambda: len(door.got) == 3)
    queue.close()
    journal.close()


def test_refused_alerts_are_bounded_in_number_size_and_age() -> None:
    door = Door(AddressRefused("HTTP 404"))
    queue = SinkQueue("webhook", door, capacity=5, retry=True, pauses=SOON, refused_pauses=(0.001, 0.001))
    for number in range(20):
        queue.put(alert(number))
        time.sleep(0.002 * (number < 10))  # the thread gets some of them between
    wait_for(lambda: queue.state()["missed"] == 15)
    queue.put(replace(EVENT, clock=time.time() - 8 * 86_400))
    wait_for(lambda: queue.state()["missed"] > 15)
    assert all(each.clock > time.time() - 86_400 for each in [*queue._refused])
    queue.close()
    assert queue.state()["missed"] == 21
    large = queue_of(door)
    for number in range(6):
        large.put(replace(alert(number), kind="clip", clip=bytes(8_000_000)))
    wait_for(lambda: large.state()["missed"] >= 2)
    assert sum(len(each.clip or b"") for each in [*large._refused, *large._queue]) <= 32_000_000
    large.close()


def test_refused_alerts_keep_their_order_while_a_server_is_away() -> None:
    door = Door(AddressRefused("HTTP 403"))
    queue = SinkQueue("webhook", door, retry=True, pauses=(0.3, 0.3), refused_pauses=(0.05, 0.05))
    for number in range(3):
        queue.put(alert(number))
    wait_for(lambda: queue.state()["refused"] == 3)
    tried, door.error = len(door.tried), VljEdgeError("away")
    wait_for(lambda: len(door.tried) > tried)
    for number in range(3, 6):  # each wakes the queue
        queue.put(alert(number))
        time.sleep(0.01)
    door.error = None
    wait_for(lambda: len(door.got) == 6)
    queue.close()
    numbers = [int(event.event) % 3 for event in door.got if int(event.event) < 3]
    first = numbers[0]
    assert numbers == [first, (first + 1) % 3, (first + 2) % 3]


def test_texts_that_are_refused_do_not_wait() -> None:
    door = Door(AddressRefused("HTTP 404"))
    door.write = lambda event: (_ for _ in ()).throw(door.error)  # type: ignore[method-assign]
    queue = queue_of(door)
    queue.put(text(0))
    wait_for(lambda: queue.state()["missed"] == 1)
    assert queue.state()["refused"] == 0
    queue.close()
