"""Locks of a store: one writer at a time, by a locked file in a folder and a lease in a bucket, and readers of a folder
whose version must not be cleaned away."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from vlj_edge.errors import VljEdgeError, require

from .lance_errors import one_line

_WRITER, _READERS = "writer.lock", "readers.lock"
_CLEANING_SECONDS = 1.0  # that the writer waits for readers before it leaves cleaning for the next time
_LEASES = "writer"
_LEASE_SECONDS, _RENEWAL_SECONDS = 120.0, 30.0  # a writer that is killed keeps others off for so long, at most
_RENEWALS_PER_TIDY, _ATTEMPTS, _CREATION_SECONDS = 20, 10, 1.0


class FolderLock:
    """A locked file, which the system unlocks when its process ends, however it ends.

    Args:
        table: name of the store's table, without which the folder must hold nothing else.

    Raises:
        VljEdgeError: another process writes to the folder, or it holds other files than a store, or cannot be made.
    """

    def __init__(self, folder: Path, table: str) -> None:
        if folder.is_file():
            raise VljEdgeError(f"{folder} is a file, and a store holds other files than that: name a folder")
        there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
        if f"{table}.lance" not in there and there - {_WRITER, _READERS}:
            raise VljEdgeError(f"{folder} holds other files than a store: name a folder that does not exist yet")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            os.close(os.open(folder / _READERS, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666))
            self._file = os.open(folder / _WRITER, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise VljEdgeError(f"{folder} cannot be made ({error.strerror}): name another place") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._file)
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise VljEdgeError(f"{folder} cannot be locked ({error.strerror}): name a folder on a disk") from error
            raise VljEdgeError(f"{folder} is being written by another process: wait for it, or name another") from error

    def check(self) -> None:
        """A locked file stays locked."""

    def close(self) -> None:
        """Let others write. May be called twice."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


class BucketLease:
    """A row of a table in the bucket that names the writer and the time until which it writes, renewed by a thread.

    Of several writers that change the row as it was, only one can: LanceDB commits by conditional puts. The clocks of
    machines that write to one bucket must agree to within a minute.

    Raises:
        VljEdgeError: another process writes to the bucket, or it cannot be written.
    """

    def __init__(self, database: Any, shown: str) -> None:
        self._shown, self._owner = shown, f"{socket.gethostname()}, process {os.getpid()}, {os.urandom(4).hex()}"
        self._stop, self._valid_until = threading.Event(), 0.0
        self._thread: threading.Thread | None = None
        with one_line(f"{shown} cannot be written", "check the place and its permissions"):
            self._table = self._open(database)
            if not self._take(f"until < {time.time()}"):
                [holder] = self._table.to_arrow().to_pylist()
                wait = max(1, round(holder["until"] - time.time()))
                raise VljEdgeError(
                    f"{shown} is being written by another process ({holder['owner'].rpartition(', ')[0]}): wait for it,"
                    f" or name another; if it was killed, this is free in {wait} s"
                )
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raises VljEdgeError: the lease has run out or was lost, so that another process may write by now."""
        with one_line(f"{self._shown} cannot be written", "check the network, and run this again"):
            ours = self._table.count_rows(self._is_ours) == 1
        if not ours or time.monotonic() > self._valid_until:
            raise VljEdgeError(
                f"{self._shown} could not be reached for {_LEASE_SECONDS:g} s, and another process may write to it now:"
                " run this again"
            )

    def close(self) -> None:
        """Let others write. May be called twice."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
            with suppress(OSError, RuntimeError, ValueError):  # it runs out
                self._table.update(where=self._is_ours, values={"until": 0.0})

    @property
    def _is_ours(self) -> str:
        return f"owner = '{self._owner}'"

    def _open(self, database: Any) -> Any:
        arrow = require("pyarrow", "store")
        for attempt in range(_ATTEMPTS):
            try:
                made = database.create_table(_LEASES, data=arrow.table({"owner": ["nobody"], "until": [0.0]}))
            except ValueError:  # it exists
                return database.open_table(_LEASES)
            except RuntimeError:  # another process makes it at the same time
                if attempt == _ATTEMPTS - 1:
                    raise
                time.sleep(_CREATION_SECONDS)
                continue
            break
        time.sleep(_CREATION_SECONDS)  # one that another process makes at the same time may take its place
        return made

    def _take(self, where: str) -> bool:
        """Renew the lease if it is as `where` says; return whether it was."""
        for attempt in range(_ATTEMPTS):
            now = time.monotonic()
            values = {"owner": self._owner, "until": time.time() + _LEASE_SECONDS}
            try:
                taken = bool(self._table.update(where=where, values=values).rows_updated)
            except RuntimeError:  # another process changes it at the same time
                if attempt == _ATTEMPTS - 1:
                    raise
                time.sleep(0.2)
                continue
            break
        if taken:
            self._valid_until = now + _LEASE_SECONDS
        return taken

    def _renew(self) -> None:
        renewals = 0
        while not self._stop.wait(_RENEWAL_SECONDS):
            try:
                if not self._take(self._is_ours):
                    self._valid_until = 0.0
                    return
                renewals += 1
                if renewals % _RENEWALS_PER_TIDY == 0:
                    self._table.optimize(cleanup_older_than=timedelta(seconds=_LEASE_SECONDS), delete_unverified=True)
            except (OSError, RuntimeError, ValueError):  # tried again; until then it is valid for what is left of it
                continue


@contextmanager
def readers_lock(folder: Path | None, exclusive: bool = False) -> Iterator[bool]:
    """Keep the writer from cleaning up while a version of a folder is read.

    Args:
        folder: None: a bucket, where nothing is locked.
        exclusive: of the writer, which cleans up.

    Yields:
        Whether nobody else holds it. For a reader always true, also where nothing can be locked: see Store.read().
    """
    try:
        file = os.open(folder / _READERS, os.O_RDONLY | os.O_CLOEXEC) if folder is not None else None
    except OSError:  # not made by this version
        file = None
    if file is None:
        yield True
        return
    try:
        yield _lock_exclusively(file) if exclusive else _lock_shared(file)
    finally:
        os.close(file)


def _lock_shared(file: int) -> bool:
    with suppress(OSError):
        fcntl.flock(file, fcntl.LOCK_SH)
    return True


def _lock_exclusively(file: int) -> bool:
    until = time.monotonic() + _CLEANING_SECONDS
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                return False
            time.sleep(0.005)
        except OSError:  # there are no locks here, for readers neither
            return True
        else:
            return True
