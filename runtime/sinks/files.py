"""Events in a file of JSON lines, rotated by size.

Each write is one system call, so a process that is killed leaves at most its last line incomplete. A
file has one writer.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

from vlj_edge.atomic_write import is_no_file
from vlj_edge.errors import VljEdgeError
from vlj_edge.json_text import json_text

from .base import AnyEvent


class JsonLinesFile:
    """A sink that appends one line for each event, as Event.as_dict(), to a file.

    Args:
        most_bytes: size at which the file is renamed to path.1, and path.1 to path.2 and so on; None for no limit.
        keep: number of renamed files to keep.

    Raises:
        VljEdgeError: the file cannot be opened.
    """

    def __init__(self, path: Path | str, most_bytes: int | None = None, keep: int = 5) -> None:
        self._file = AppendFile(Path(path))
        self._most, self._keep = None if is_no_file(Path(path)) else most_bytes, keep  # /dev/stdout stays in its place

    def write(self, event: AnyEvent) -> None:
        """See Sink.

        Raises:
            VljEdgeError: it cannot be written. The next event opens it again.
        """
        data = f"{json_text(event.as_dict())}\n".encode()
        if self._most is not None and (size := self._file.size()) > 0 and size + len(data) > self._most:
            self._file.rotate(self._keep)
        self._file.write(data)

    def close(self) -> None:
        """See Sink."""
        self._file.close()


class AppendFile:
    """A file to append to. It is opened again for the next write after an error, and when it was moved or deleted.

    Raises:
        VljEdgeError: the file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None
        try:
            self._open()
        except OSError as error:
            raise self._error(error) from error

    def size(self) -> int:
        """Return the size in bytes; 0 if there is no file."""
        try:
            return self._path.stat().st_size
        except OSError:
            return 0

    def write(self, data: bytes) -> None:
        """Append all of the data, or nothing and raise VljEdgeError."""
        try:
            if self._file is not None and self._was_moved(self._file):
                self.close()
            file = self._open() if self._file is None else self._file
            before = os.fstat(file).st_size
            if os.write(file, data) < len(data):  # the disk is full, or nearly
                os.ftruncate(file, before)
                raise OSError("there was no room for all of it")
        except OSError as error:
            self.close()
            raise self._error(error) from error

    def rotate(self, keep: int) -> None:
        """Rename the file to path.1, path.1 to path.2 and so on, and delete the one after path.<keep>."""
        names = [self._path, *(self._path.with_name(f"{self._path.name}.{n}") for n in range(1, keep + 1))]
        self.close()
        try:
            if keep < 1:
                self._path.unlink()
            for old, new in reversed(list(pairwise(names))):
                with suppress(FileNotFoundError):  # an earlier run was killed in mid-rotation
                    old.replace(new)
        except OSError as error:
            raise self._error(error) from error

    def close(self) -> None:
        """Close the file."""
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):
                os.close(file)

    def _was_moved(self, file: int) -> bool:
        """Return whether the path no longer names this file."""
        about = os.fstat(file)
        if not stat.S_ISREG(about.st_mode):
            return False
        try:
            return not os.path.samestat(about, self._path.stat())
        except FileNotFoundError:
            return True

    def _open(self) -> int:
        file = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            size = os.fstat(file).st_size
            if size and os.pread(file, 1, size - 1) != b"\n":
                os.write(file, b"\n")  # an earlier run was killed within a line: start a new one
        except OSError:
            os.close(file)
            raise
        self._file = file
        return file

    def _error(self, error: OSError) -> VljEdgeError:
        return VljEdgeError(
            f"{self._path} cannot be written ({error.strerror or error}): free space, or give another path"
        )
