"""What alerts keep over a restart: messages until they are delivered, with the same ids, and each alert's state."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.runtime import tiny_bundle as by_hand
from tests.runtime.tiny_bundle import BLUE, GREEN, RED
from tests.waiting import wait_for
from vlj_edge.errors import VljEdgeError
from vlj_edge.runtime.alerts import journal as journals
from vlj_edge.runtime.alerts.decision import AlertState, Rule
from vlj_edge.runtime.alerts.journal import AlertJournal
from vlj_edge.runtime.alerts.settings import Alert
from vlj_edge.runtime.alerts.status import AlertStatus, as_kept, restored
from vlj_edge.runtime.alerts.watch import AlertWatch
from vlj_edge.runtime.model import Model
from vlj_edge.runtime.sinks.alert_event import AlertEvent, event_id
from vlj_edge.runtime.sinks.base import EventRefused
from vlj_edge.runtime.sinks.queue import SinkQueue

EVENT = AlertEvent("door", "hall", "start", event_id("door", "hall", 1.0), time.time(), 1.0, 0.9, b"JPEG")
RULE = Rule(0.6, 0.4, 0.0, 600.0)


class Sink:
    """Fails with an error, or keeps what it is given."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error, self.got, self.tries = error, list[AlertEvent](), 0

    def write(self, event: AlertEvent) -> None:
        self.tries += 1
        if self.error is not None:
            raise self.error
        self.got.append(event)

    def close(self) -> None:
        pass


class Later(Sink):
    """Tells of deliveries afterwards, as MQTT does."""

    def __init__(self) -> None:
        super().__init__()
        self.on_acknowledged = lambda event: None


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[AlertJournal]:
    with_folder = AlertJournal(tmp_path / "alerts")
    yield with_folder
    with_folder.close()


def tell(journal: AlertJournal, sink: Sink, *events: AlertEvent, clock: float = 0.0) -> SinkQueue:
    """A queue that takes from the journal, and is told of events."""
    queue = SinkQueue("webhook", sink, retry=True, pauses=(0.01, 0.02))
    journal.attach(queue, clock)
    for event in events:
        queue.put(replace(event, kept=journal.add(event, "{}")))
    return queue


def again(journal: AlertJournal, tmp_path: Path) -> AlertJournal:
    journal.close()
    return AlertJournal(tmp_path / "alerts")


def test_what_was_not_delivered_comes_after_a_restart_with_the_same_id_and_picture(tmp_path: Path) -> None:
    journal, down = AlertJournal(tmp_path / "alerts"), Sink(OSError("it is down"))
    events = [replace(EVENT, kind=kind) for kind in ("start", "end")]
    queue = tell(journal, down, *events)
    wait_for(lambda: down.tries > 1)
    assert queue.state()["queued"] == 2
    queue.close(0.0)
    assert queue.state()["missed"] == queue.state()["queued"] == 0  # they are kept, not lost
    journal = again(journal, tmp_path)
    up = Sink()
    queue = tell(journal, up)
    wait_for(lambda: len(up.got) == 2)
    assert up.got == events and [event.id for event in up.got] == [event.id for event in events]
    assert up.got[0].picture == b"JPEG"
    queue.close()
    journal = again(journal, tmp_path)
    once_more = tell(journal, up)
    once_more.close()
    assert len(up.got) == 2
    journal.close()


def test_many_that_wait_come_in_order_and_few_are_in_memory(journal: AlertJournal) -> None:
    sink = Sink(OSError("it is down"))
    events = [replace(EVENT, event=f"{number:032}") for number in range(50)]
    queue = tell(journal, sink, *events)
    wait_for(lambda: sink.tries > 1)
    assert queue.state()["queued"] == 50 and len(queue._queue) <= 4
    sink.error = None
    wait_for(lambda: len(sink.got) == 50)
    assert sink.got == events
    queue.close()


def test_what_is_refused_is_not_sent_again(tmp_path: Path) -> None:
    journal, sink = AlertJournal(tmp_path / "alerts"), Sink(EventRefused("no"))
    queue = tell(journal, sink, EVENT)
    wait_for(lambda: queue.state()["missed"] == 1)
    queue.close()
    journal = again(journal, tmp_path)
    tell(journal, sink).close()
    assert sink.tries == 1
    journal.close()


def test_what_is_acknowledged_later_is_kept_until_then(tmp_path: Path) -> None:
    journal, sink = AlertJournal(tmp_path / "alerts"), Later()
    queue = tell(journal, sink, EVENT, replace(EVENT, kind="end"))
    wait_for(lambda: len(sink.got) == 2)
    sink.on_acknowledged(sink.got[0])
    queue.close()
    journal, after = again(journal, tmp_path), Sink()
    queue = tell(journal, after)
    wait_for(lambda: after.got)
    queue.close()
    assert [event.kind for event in after.got] == ["end"]
    journal.close()


def test_what_is_a_week_old_is_not_sent_any_more(tmp_path: Path) -> None:
    journal = AlertJournal(tmp_path / "alerts")
    tell(journal, Sink(OSError("it is down")), EVENT).close(0.0)
    journal, sink = again(journal, tmp_path), Sink()
    tell(journal, sink, clock=EVENT.clock + 8 * 86400).close()
    assert sink.got == [] and len(journal.latest(5)) == 1
    journal.close()


def test_what_was_told_before_the_clock_was_set_is_sent_all_the_same(tmp_path: Path) -> None:
    journal = AlertJournal(tmp_path / "alerts")
    tell(journal, Sink(OSError("no network yet")), replace(EVENT, clock=40.0)).close(0.0)
    journal, sink = again(journal, tmp_path), Sink()
    tell(journal, sink, clock=EVENT.clock).close()
    assert [event.clock for event in sink.got] == [40.0]
    journal.close()


def test_the_oldest_are_forgotten_beyond_a_count_and_a_size(
    journal: AlertJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal._most = (5, 10**9)
    for number in range(8):
        assert journal.add(replace(EVENT, event=f"{number}"), "{}")
    assert [event.event for event in journal.latest(10)] == ["7", "6", "5", "4", "3"]
    journal._most = (5, 10)
    assert journal.add(replace(EVENT, event="8"), "{}")
    assert [event.event for event in journal.latest(10)] == ["8", "7"] and journal.picture("7") == b"JPEG"
    assert journal.picture("5") is None and journal.clip("8") is None


def test_a_full_disk_stops_no_alert_and_is_logged_once(journal: AlertJournal, caplog: pytest.LogCaptureFixture) -> None:
    [[pages]] = journal._read("PRAGMA page_count")
    journal._read(f"PRAGMA max_page_count = {pages + 1}")
    sink, large = Sink(), replace(EVENT, picture=bytes(100_000))
    with caplog.at_level(logging.WARNING):
        queue = tell(journal, sink, *(replace(large, event=f"{number}") for number in range(3)))
        wait_for(lambda: len(sink.got) == 3)
    assert sum("full" in record.getMessage() for record in caplog.records) == 1
    journal._read("PRAGMA max_page_count = 1000000")
    assert journal.add(large, "{}")
    queue.close()


class FullAtCommit:
    """A database on a disk that is full, which is noticed when what was written is committed."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)

    def __enter__(self) -> sqlite3.Connection:
        return self._database.__enter__()

    def __exit__(self, *raised: object) -> None:
        self._database.rollback()
        raise sqlite3.OperationalError("database or disk is full")


def test_what_a_full_disk_does_not_commit_is_delivered_all_the_same(
    journal: AlertJournal, caplog: pytest.LogCaptureFixture
) -> None:
    database: Any = journal._opened
    journal._opened = FullAtCommit(database)  # type: ignore[assignment]
    sink = Sink()
    with caplog.at_level(logging.INFO):
        assert not journal.add(EVENT, "{}")
        queue = tell(journal, sink, *(replace(EVENT, event=f"{number}") for number in range(3)))
        wait_for(lambda: len(sink.got) == 3)
        journal._opened = database
        assert journal.add(EVENT, "{}") and journal.add(replace(EVENT, event="later"), "{}")
    lines = [record.getMessage() for record in caplog.records if "over a restart" in record.getMessage()]
    assert len(lines) == 2 and "full" in lines[0] and "again" in lines[1]
    queue.close()


def test_a_damaged_file_is_put_aside_and_another_program_is_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "alerts.sqlite").write_bytes(b"no database " * 1000)
    journal = AlertJournal(tmp_path)
    assert journal.add(EVENT, "{}") and (tmp_path / "alerts.sqlite.unused").exists() and caplog.records
    with pytest.raises(VljEdgeError, match="another program") as caught:
        AlertJournal(tmp_path)
    assert "--alert-folder" in str(caught.value) and "\n" not in str(caught.value)
    journal.close()
    with sqlite3.connect(tmp_path / "alerts.sqlite") as newer:
        newer.execute("PRAGMA user_version = 99")
    newer.close()
    AlertJournal(tmp_path).close()
    (tmp_path / "file").write_text("x")
    with pytest.raises(VljEdgeError, match="file"):
        AlertJournal(tmp_path / "file")


@pytest.mark.parametrize("page", [1, 2, 3, 4])
def test_a_journal_that_is_damaged_within_is_put_aside(tmp_path: Path, page: int) -> None:
    journal = AlertJournal(tmp_path)
    for number in range(40):
        assert journal.add(replace(EVENT, event=f"{number:032}"), "{}")
    journal.close()
    path = tmp_path / "alerts.sqlite"
    data = bytearray(path.read_bytes())
    data[page * 4096 : (page + 1) * 4096] = b"\xa5" * 4096
    path.write_bytes(data)
    journal, sink = AlertJournal(tmp_path), Sink()
    queue = tell(journal, sink, replace(EVENT, event="f" * 32))
    wait_for(lambda: sink.got)
    assert journal.picture("f" * 32) == b"JPEG"
    queue.close()
    journal.close()


shares = st.floats(0, 1)
states = st.builds(
    AlertState,
    st.sampled_from(["idle", "pending", "firing", "cooling"]),
    st.none() | st.floats(-1e9, 1e9),
    st.none() | shares,
    st.booleans(),
    st.floats(0, 1e6),
    st.floats(0, 1e6),
    shares,
)


@given(states, st.floats(-1e10, 1e10), st.floats(-1e10, 1e10))
def test_a_status_comes_back_whatever_the_clock_does(state: AlertState, clock: float, later: float) -> None:
    before = AlertStatus("door", "hall", state, "e" * 32, 5.0, 7)
    after = restored("door", "hall", as_kept(before, clock), RULE, 3.0, later)
    assert (after.event, after.since, after.events) == (before.event, before.since, before.events)
    assert (after.state.phase == "firing") == (state.phase == "firing")
    assert 0 <= after.state.rest <= RULE.again_after and after.state.at == 3.0


@given(st.text(max_size=20) | st.sampled_from(["[]", "{}", '{"phase": "firing"}', "1e999", "null"]))
def test_a_damaged_state_is_told_from_a_sound_one(text: str) -> None:
    with pytest.raises(ValueError):
        restored("door", "hall", text, RULE, 0.0, 0.0)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    with Model(by_hand.build(tmp_path_factory.mktemp("journal") / "bundle")) as loaded:
        yield loaded


LOOKS = [0.0]  # time in the source of the last look


class Time:
    """Both clocks, which tests set."""

    now, clock = 100.0, 1e9


def end(made: AlertWatch) -> None:
    """Close it as if the program were killed: the journal first, so that nothing of the end is kept."""
    made.journal.close()
    made.close()


def watch(model: Model, folder: Path, told: list[AlertEvent], at: Time, *names: str, rule: Rule = RULE) -> AlertWatch:
    """A watch as a new start of the program makes it."""
    made = AlertWatch(model, told.append, AlertJournal(folder), now=lambda: at.now, clock=lambda: at.clock)
    made.apply([Alert(name, ("green",), ("red", "blue"), rule=rule) for name in names], {"hall": None})
    return made


def look(watch: AlertWatch, colour: tuple[int, int, int]) -> None:
    """Show a colour to a camera that has just been opened, so that what it showed before does not count."""
    LOOKS[0] -= 1.0
    watch.add("hall", None, LOOKS[0], by_hand.embedding_of(colour), lambda: np.zeros((4, 4, 3), np.uint8))


def test_an_event_goes_on_over_a_restart(model: Model, tmp_path: Path) -> None:
    told: list[AlertEvent] = []
    before = watch(model, tmp_path, told, Time(), "door")
    assert before.restore() == []
    look(before, GREEN)
    end(before)
    after = watch(model, tmp_path, told, Time(), "door")
    assert after.restore() == [] and [status.state.phase for status in after.statuses()] == ["firing"]
    look(after, GREEN)
    assert [event.kind for event in told] == ["start"]
    look(after, BLUE)
    assert [event.kind for event in told] == ["start", "end"] and told[0].event == told[1].event
    end(after)


def test_the_time_until_it_may_fire_again_goes_on_over_a_restart(model: Model, tmp_path: Path) -> None:
    told, at = list[AlertEvent](), Time()
    before = watch(model, tmp_path, told, at, "door")
    before.restore()
    look(before, GREEN)
    look(before, RED)
    assert [event.kind for event in told] == ["start", "end"]
    end(before)
    at.now, at.clock = 0.0, at.clock + 400  # 400 of the 600 seconds pass while it is off
    after = watch(model, tmp_path, told, at, "door")
    after.restore()
    at.now = 199.0
    look(after, GREEN)
    assert len(told) == 2
    at.now = 201.0
    look(after, GREEN)
    assert [event.kind for event in told] == ["start", "end", "start"] and told[2].event != told[0].event
    end(after)


def test_an_alert_that_is_gone_after_a_restart_is_over(model: Model, tmp_path: Path) -> None:
    told: list[AlertEvent] = []
    before = watch(model, tmp_path, told, Time(), "door", "gate")
    before.restore()
    look(before, GREEN)
    end(before)
    after = watch(model, tmp_path, told, Time(), "gate")
    assert after.restore() == [("door", "hall")]
    assert [(event.alert, event.kind) for event in told] == [("door", "start"), ("gate", "start"), ("door", "end")]
    end(after)
    last = watch(model, tmp_path, told, Time(), "gate")
    assert last.restore() == [] and len(told) == 3
    end(last)


def test_an_event_of_a_camera_that_stays_away_is_over(model: Model, tmp_path: Path) -> None:
    told, at = list[AlertEvent](), Time()
    made = watch(model, tmp_path, told, at, "door")
    made.restore()
    look(made, GREEN)
    for later, kinds in ((59.0, ["start"]), (61.0, ["start", "end"]), (200.0, ["start", "end"])):
        at.now, at.clock = 100.0 + later, 1e9 + later
        made.end_of_away()
        assert [event.kind for event in told] == kinds
    assert told[1].clock == 1e9 + 61 and told[1].since == 1e9  # with the last that was seen
    look(made, GREEN)
    assert len(told) == 2  # again_after counts from the end
    end(made)


def test_damaged_states_begin_anew(model: Model, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = watch(model, tmp_path, [], Time(), "door")
    first.journal.watch({("door", "hall"): '{"phase": 5}'})
    assert first.restore() == [] and "door" in caplog.text
    assert [status.state.phase for status in first.statuses()] == ["idle"]
    end(first)


def test_without_a_folder_nothing_is_kept_and_little_is_in_memory() -> None:
    journal, sink = AlertJournal(), Sink()
    queue = SinkQueue("webhook", sink, retry=True)
    journal.attach(queue, 0.0)
    assert journal.add(EVENT, "{}") and journal.picture(EVENT.event) == b"JPEG" and not journal.lasts
    queue.put(EVENT)
    queue.close()
    assert sink.got == [EVENT] and journal._most[1] <= 64_000_000 < journals._MOST_BYTES
    journal.close()
