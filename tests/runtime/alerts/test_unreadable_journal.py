"""A journal that cannot be read for a while loses nothing, and says so."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.sinks.test_refused_alerts import EVENT, REFUSED_SOON, SOON, Door, alert
from tests.waiting import wait_for
from vlj_edge.runtime.alerts.journal import AlertJournal, JournalUnreadable, Outbox
from vlj_edge.runtime.sinks.base import AddressRefused
from vlj_edge.runtime.sinks.queue import SinkQueue


class Disk:
    """A connection whose disk fails while `fails`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection, self.fails = connection, False

    def execute(self, query: str, *values: Any) -> sqlite3.Cursor:
        if self.fails and query.startswith("SELECT"):
            raise sqlite3.OperationalError("disk I/O error")
        return self._connection.execute(query, *values)

    def __enter__(self) -> Disk:
        self._connection.__enter__()
        return self

    def __exit__(self, *how: Any) -> None:
        self._connection.__exit__(*how)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[AlertJournal]:
    found = AlertJournal(tmp_path)
    found._opened = Disk(found._opened)  # type: ignore[assignment, arg-type]
    yield found
    found.close()


def disk(journal: AlertJournal) -> Disk:
    return journal._opened  # type: ignore[return-value]


def opened(door: Door, journal: AlertJournal) -> SinkQueue:
    queue = SinkQueue("webhook", door, retry=True, pauses=SOON, refused_pauses=REFUSED_SOON)
    journal.attach(queue, time.time())
    return queue


def test_a_refused_alert_waits_until_it_can_be_read_again(journal: AlertJournal) -> None:
    door = Door(AddressRefused("HTTP 401"))
    queue = opened(door, journal)
    queue.put(replace(EVENT, kept=journal.add(EVENT, "{}")))
    wait_for(lambda: queue.state()["refused"] == 1)
    disk(journal).fails = True
    wait_for(lambda: "disk I/O error" in (queue.problem or ""))
    door.error = None
    time.sleep(0.1)  # time for several attempts
    assert queue.state()["queued"] == queue.state()["refused"] == 1
    disk(journal).fails = False
    wait_for(lambda: [(each.id, each.picture) for each in door.got] == [(EVENT.id, EVENT.picture)])
    wait_for(lambda: queue.state()["queued"] == 0 and queue.problem is None)
    queue.close()


def test_alerts_that_were_kept_are_taken_once_they_can_be_read(
    journal: AlertJournal, caplog: pytest.LogCaptureFixture
) -> None:
    door = Door()
    with caplog.at_level(logging.WARNING):
        queue = opened(door, journal)
        disk(journal).fails = True
        for number in range(9):
            queue.put(replace(alert(number), kept=journal.add(alert(number), "{}")))
        wait_for(lambda: queue.problem)
        queue.put(replace(alert(9), kept=False))  # one that could not be kept
        wait_for(lambda: [each.event for each in door.got] == [alert(9).event])
        time.sleep(0.05)
    assert len(caplog.records) == 1 and "disk I/O error" in caplog.text  # not at each attempt
    disk(journal).fails = False
    wait_for(lambda: [each.event for each in door.got[1:]] == [alert(number).event for number in range(9)])
    queue.close()


def test_a_message_that_is_damaged_is_left_out_and_holds_up_no_other(journal: AlertJournal) -> None:
    for number in range(5):
        journal.add(alert(number), "{}")
    door = Door()
    with disk(journal) as database:
        for number, data in enumerate(("{", "[]", '{"alert": "door"}')):
            database.execute("UPDATE messages SET data = ? WHERE event = ?", (data, alert(number).event))
        database.execute("INSERT INTO waiting SELECT 'webhook', number FROM messages")
    queue = opened(door, journal)
    wait_for(lambda: [each.event for each in door.got] == [alert(3).event, alert(4).event])
    assert [each.event for each in journal.latest(9)] == [alert(4).event, alert(3).event]
    queue.close()


def test_what_was_read_before_the_disk_failed_is_taken_again(journal: AlertJournal) -> None:
    for number in range(4):
        journal.add(alert(number), "{}")
    with disk(journal) as database:
        database.execute("UPDATE messages SET data = '{' WHERE event = ?", (alert(0).event,))
        database.execute("INSERT INTO waiting SELECT 'webhook', number FROM messages")
    outbox, after, reads = Outbox(journal, "webhook"), journal.after, 0

    def fails_the_second_time(*asked: Any) -> Any:
        nonlocal reads
        reads += 1
        disk(journal).fails = reads == 2
        return after(*asked)

    journal.after = fails_the_second_time  # type: ignore[method-assign]
    with pytest.raises(JournalUnreadable):
        outbox.take(2)  # the first is damaged, so that another is read in its place
    assert [each.event for each in outbox.take(2)] == [alert(1).event, alert(2).event]
    assert [each.event for each in outbox.take(2)] == [alert(3).event]


def test_what_is_asked_of_a_journal_that_fails_is_refused_and_after_its_end_empty(journal: AlertJournal) -> None:
    journal.add(EVENT, "{}")
    asked = (
        journal.states,
        journal.pictured,
        lambda: journal.latest(3),
        lambda: journal.picture(EVENT.event),
        lambda: journal.count_after("webhook", 0),
        lambda: journal.whole("webhook", EVENT),
    )
    disk(journal).fails = True
    for question in asked:
        with pytest.raises(JournalUnreadable, match="disk I/O error"):
            question()
    journal.close()
    assert not any(question() for question in asked)
