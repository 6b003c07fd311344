"""What alerts have told, on the disk: messages until every sink has delivered them, and what is known of each alert."""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vlj_edge.errors import VljEdgeError

from ..sinks.alert_event import CLOCK_IS_SET, SENT_FOR, AlertEvent, from_dict
from ..sinks.queue import SinkQueue

_LOG = logging.getLogger(__name__)
_NAME, _VERSION = "alerts.sqlite", 1
_MOST_MESSAGES, _MOST_BYTES = 3000, 500_000_000  # of pictures and clips; the oldest go first
_MOST_IN_MEMORY, _MOST_BYTES_IN_MEMORY = 200, 32_000_000
_TABLES = """
CREATE TABLE IF NOT EXISTS messages (number INTEGER PRIMARY KEY AUTOINCREMENT, event TEXT NOT NULL, kind TEXT NOT NULL,
    clock REAL NOT NULL, data TEXT NOT NULL, bytes INTEGER NOT NULL, picture BLOB, clip BLOB, UNIQUE (event, kind));
CREATE TABLE IF NOT EXISTS waiting (sink TEXT, number INTEGER, PRIMARY KEY (sink, number)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS states (alert TEXT, source TEXT, data TEXT, PRIMARY KEY (alert, source)) WITHOUT ROWID;
"""
_READ_FIRST = (
    *("messages INDEXED BY sqlite_autoindex_messages_1", "sqlite_sequence"),
    *("waiting JOIN messages USING (number)", "states"),
)


class JournalUnreadable(VljEdgeError):
    """The file of an AlertJournal cannot be read now; it may be later."""


class AlertJournal:
    """Keeps the messages of alerts, with their pictures, and the state of each alert. Callable from any thread.

    If the disk is full or fails, this is logged once, and alerts are told all the same. What reads raises
    JournalUnreadable if the file cannot be read.

    Args:
        folder: is made if it is not there; None: all is kept in memory, and nothing over a restart.

    Attributes:
        lasts: whether it is kept over a restart.

    Raises:
        VljEdgeError: the folder cannot be used, or another program uses it.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.lasts = folder is not None
        self._lock, self._sinks, self._complained = threading.RLock(), list[str](), False
        self._most = (_MOST_MESSAGES, _MOST_BYTES) if self.lasts else (_MOST_IN_MEMORY, _MOST_BYTES_IN_MEMORY)
        # What is in memory is only made when there is something to keep.
        self._opened = None if folder is None else _open(folder)
        self._closed = False

    def attach(self, sink: SinkQueue, clock: float) -> None:
        """Let a sink take its alerts from here, with those that an earlier run of the program could not deliver.

        Args:
            clock: unix time.
        """
        if not self.lasts or not sink.takes_kept_alerts:
            return
        self._sinks.append(sink.name)
        old = "SELECT number FROM messages WHERE clock BETWEEN ? AND ?"
        with self._writing() as database:
            times = (CLOCK_IS_SET, clock - SENT_FOR)
            lost = database.execute(f"DELETE FROM waiting WHERE sink = ? AND number IN ({old})", [sink.name, *times])
            if lost.rowcount:
                _LOG.warning("%d messages of alerts are too old to be sent to %s now", lost.rowcount, sink.name)
        sink.use_outbox(Outbox(self, sink.name))

    def add(self, event: AlertEvent, state: str) -> bool:
        """Keep a message for all sinks, and the state of its alert; return whether that has succeeded."""
        size = len(event.picture or b"") + len(event.clip or b"")
        row = (event.event, event.kind, event.clock, json.dumps(event.as_dict()), size, event.picture, event.clip)
        with self._lock:
            try:
                with self._database as database:
                    added = database.execute(
                        "INSERT INTO messages (event, kind, clock, data, bytes, picture, clip)"
                        " VALUES (?, ?, ?, ?, ?, ?, ?)",
                        row,
                    )
                    waiting = [(sink, added.lastrowid) for sink in self._sinks]
                    database.executemany("INSERT INTO waiting VALUES (?, ?)", waiting)
                    database.execute("REPLACE INTO states VALUES (?, ?, ?)", (event.alert, event.source, state))
                    self._forget(database)
            except sqlite3.Error as error:  # also of the commit, where a full disk is often noticed
                self._complain(error)
                return False
            if self._complained:
                _LOG.info("alerts are kept over a restart again")
            self._complained = False
            return True

    def states(self) -> dict[tuple[str, str], str]:
        """Return the states that were kept, by (alert, source)."""
        return {(alert, source): data for alert, source, data in self._read("SELECT alert, source, data FROM states")}

    def watch(self, states: dict[tuple[str, str], str]) -> None:
        """Keep these states, by (alert, source), and no others."""
        with self._writing() as database:
            database.execute("DELETE FROM states")
            database.executemany("INSERT INTO states VALUES (?, ?, ?)", [(*key, data) for key, data in states.items()])

    def latest(self, count: int) -> list[AlertEvent]:
        """Return the newest messages, without pictures and clips; the newest first."""
        rows = self._read("SELECT data FROM messages ORDER BY number DESC LIMIT ?", count)
        return [event for (data,) in rows if (event := _message(data)) is not None]

    def pictured(self) -> set[str]:
        """Return the events that have a picture."""
        return {event for (event,) in self._read("SELECT event FROM messages WHERE picture IS NOT NULL")}

    def picture(self, event: str) -> bytes | None:
        """Return the JPEG of an event."""
        return self._blob("picture", event)

    def clip(self, event: str) -> bytes | None:
        """Return the MP4 of an event."""
        return self._blob("clip", event)

    def close(self) -> None:
        """Release the file. What is added or asked after that has no effect."""
        with self._lock:
            self._closed = self._complained = True  # its end is no failure
            if self._opened is not None:
                self._opened.close()

    def after(self, sink: str, number: int, count: int) -> list[tuple[int, AlertEvent | None]]:
        """Return the oldest messages that wait for a sink, with their numbers, of those beyond a number; None for one
        that is damaged."""
        rows = self._read(
            "SELECT number, data, picture, clip FROM waiting JOIN messages USING (number)"
            " WHERE sink = ? AND number > ? ORDER BY number LIMIT ?",
            *(sink, number, count),
        )
        return [(found, _message(data, picture, clip)) for found, data, picture, clip in rows]

    def whole(self, sink: str, event: AlertEvent) -> AlertEvent | None:
        """Return a message with its pictures; None: it is forgotten, or does not wait for the sink."""
        rows = self._read(
            "SELECT data, picture, clip FROM waiting JOIN messages USING (number)"
            " WHERE sink = ? AND event = ? AND kind = ?",
            *(sink, event.event, event.kind),
        )
        return _message(*rows[0]) if rows else None

    def count_after(self, sink: str, number: int) -> int:
        """Return how many messages beyond a number wait for a sink."""
        rows = self._read("SELECT COUNT(*) FROM waiting WHERE sink = ? AND number > ?", sink, number)
        return int(rows[0][0]) if rows else 0

    def done(self, sink: str, event: AlertEvent) -> None:
        """Forget that a message waits for a sink."""
        with self._writing() as database:
            database.execute(
                "DELETE FROM waiting WHERE sink = ? AND number IN"
                " (SELECT number FROM messages WHERE event = ? AND kind = ?)",
                (sink, event.event, event.kind),
            )

    def _forget(self, database: sqlite3.Connection) -> None:
        count, size = self._most
        newest = "SELECT number FROM messages ORDER BY number DESC LIMIT 1 OFFSET ?"
        database.execute(f"DELETE FROM messages WHERE number <= ({newest})", [count])
        sizes = "SELECT number, SUM(bytes) OVER (ORDER BY number DESC) AS so_far FROM messages"
        database.execute(
            f"DELETE FROM messages WHERE number IN (SELECT number FROM ({sizes}) WHERE so_far > ?)", [size]
        )
        lost = database.execute("DELETE FROM waiting WHERE number NOT IN (SELECT number FROM messages)").rowcount
        if lost:
            _LOG.warning("%d messages of alerts were never delivered, and are too old to be kept", lost)

    def _blob(self, column: str, event: str) -> bytes | None:
        rows = self._read(
            f"SELECT {column} FROM messages WHERE event = ? AND {column} IS NOT NULL ORDER BY number LIMIT 1", event
        )
        return rows[0][0] if rows else None

    @property
    def _database(self) -> sqlite3.Connection:
        if self._opened is None and not self._closed:
            self._opened = _connected(":memory:")
        if self._opened is None or self._closed:
            raise sqlite3.ProgrammingError("it is closed")
        return self._opened

    def _read(self, query: str, *values: object) -> list[Any]:
        with self._lock:
            if self._closed:
                return []
            try:
                return self._database.execute(query, values).fetchall()
            except sqlite3.Error as error:
                line = f"alerts that are kept cannot be read ({error}): check the disk of their folder"
                raise JournalUnreadable(line) from error

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """All that is written in the block is kept, or nothing of it."""
        with self._lock:
            try:
                database = self._database
                with database:
                    yield database
            except sqlite3.Error as error:
                self._complain(error)

    def _complain(self, error: Exception) -> None:
        if not self._complained:
            _LOG.warning("alerts are not kept over a restart (%s): check the disk of their folder", error)
        self._complained = True


class Outbox:
    """The messages of an AlertJournal that wait for one sink."""

    def __init__(self, journal: AlertJournal, sink: str) -> None:
        self._journal, self._sink, self._last = journal, sink, 0

    def take(self, count: int) -> Sequence[AlertEvent]:
        """Return the next messages, the oldest first. Each is returned once."""
        found, last = list[AlertEvent](), self._last
        while len(found) < count and (rows := self._journal.after(self._sink, last, count - len(found))):
            last = rows[-1][0]
            found += [event for _, event in rows if event is not None]
        self._last = last  # not before all could be read: what is not returned is to be taken again
        return found

    def done(self, event: AlertEvent) -> None:
        """Forget a message: it is delivered, or never will be."""
        self._journal.done(self._sink, event)

    def whole(self, event: AlertEvent) -> AlertEvent | None:
        """Return a message that was taken, with its pictures; None: it is kept no longer."""
        return self._journal.whole(self._sink, event)

    def left(self) -> int:
        """Return how many messages are still to be taken."""
        return self._journal.count_after(self._sink, self._last)


def _message(data: str, picture: bytes | None = None, clip: bytes | None = None) -> AlertEvent | None:
    """Return a message as it was kept; None, with a line in the log, if it is damaged."""
    try:
        return from_dict(json.loads(data), picture, clip)
    except (ValueError, KeyError, TypeError) as error:
        _LOG.warning("a message of an alert that was kept is damaged (%r), and is left out", error)
        return None


def _open(folder: Path) -> sqlite3.Connection:
    path = folder / _NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            return _connected(str(path))
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as error:  # it is damaged, or of a newer vlj-edge
            _LOG.warning("%s cannot be used (%s): it is moved to %s.unused", path, error, path.name)
            path.replace(path.with_name(f"{path.name}.unused"))
            for rest in ("-wal", "-shm", "-journal"):
                path.with_name(path.name + rest).unlink(missing_ok=True)
            return _connected(str(path))
    except sqlite3.OperationalError as error:
        why = "another program uses it" if "locked" in str(error) else str(error)
        raise VljEdgeError(f"alerts cannot be kept in {folder} ({why}): choose another --alert-folder") from None
    except OSError as error:
        raise VljEdgeError(f"alerts cannot be kept in {folder} ({error.strerror}): check the folder") from None


def _connected(path: str) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=1.0, check_same_thread=False)
    try:
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        [[version]] = database.execute("PRAGMA user_version").fetchall()
        if version not in (0, _VERSION):
            raise sqlite3.DatabaseError(f"it is of version {version}, and this program knows {_VERSION}")
        database.executescript(_TABLES)
        for table in _READ_FIRST:  # damage within the file is found here
            database.execute(f"SELECT COUNT(*) FROM {table}").fetchone()
        database.execute("SELECT MAX(clock) FROM messages").fetchone()
        if version == 0:  # a full disk keeps no service from starting that has started before
            database.execute(f"PRAGMA user_version = {_VERSION}")
        database.commit()
    except BaseException:
        database.close()
        raise
    return database
