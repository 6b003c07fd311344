"""Writing a file atomically, or to a pipe or device such as /dev/stdout, which is not replaced."""

from __future__ import annotations

import io
import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

_DESCRIPTOR = re.compile(r"/dev/(std(?:in|out|err))|/(?:dev|proc/(?:self|thread-self|\d+))/fd/(\d+)")
_STANDARD = {"stdin": 0, "stdout": 1, "stderr": 2}


@contextmanager
def atomic_write(path: Path, kept_after: tuple[type[BaseException], ...] = ()) -> Iterator[IO[bytes]]:
    """Yield a binary stream whose content becomes the file at `path` when the block ends without an error.

    After an error, or if the power fails, the file that was there before is unchanged. A replaced file keeps its
    permissions, and links to it stay valid. A pipe or device gets the content when the block ends.

    Args:
        kept_after: errors after which the content that was written until then becomes the file all the same.

    Raises:
        OSError: the folder or the file may not be written to, or the disk is full. It names `path`.
    """
    kept: BaseException | None = None
    with _copied_to(path) if is_no_file(path) else _put_in_place_of(path) as stream:
        try:
            yield stream
        except kept_after as error:
            kept = error
    if kept is not None:
        raise kept


def open_directly(path: Path) -> IO[bytes]:
    """Open a file for writing so that others see at once what is written, with what was there before gone.

    /dev/stdout and the like are written to where they stand, so that a file that they lead to keeps what it has.

    Raises:
        OSError: it may not be written to.
    """
    descriptor = _descriptor(path)
    return _open(path if descriptor is None else os.dup(descriptor), "w", path)


def is_no_file(path: Path) -> bool:
    """Return whether a path cannot be replaced: a device, a pipe, or /dev/stdout."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        mode = stat.S_IFREG
    return _descriptor(path) is not None or not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def check_writable(path: Path) -> None:
    """Raises OSError: no file can be put at a path, as its folder is missing or may not be written to."""
    if path.is_dir():
        raise IsADirectoryError(21, "it is a folder", str(path))
    if not is_no_file(path):
        with suppress(_Checked), atomic_write(path):
            raise _Checked


class _Checked(Exception):
    """Raised so that nothing is written."""


@contextmanager
def _put_in_place_of(path: Path) -> Iterator[IO[bytes]]:
    target = Path(os.path.realpath(path))
    hidden = target.with_name(f".{target.name[:60]}.{secrets.token_hex(4)}")
    try:
        with _open(hidden, "x", path) as stream:
            if target.exists():
                _take_permissions(stream.fileno(), target, path)
            yield stream
            stream.flush()
            os.fsync(stream.fileno())  # otherwise, after a power failure, the new name may have half of the content
        with _naming(path):
            hidden.replace(target)
    finally:
        hidden.unlink(missing_ok=True)


@contextmanager
def _copied_to(path: Path) -> Iterator[IO[bytes]]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        hidden = Path(folder, "written")
        with _open(hidden, "x", hidden) as stream:
            yield stream
        with hidden.open("rb") as written, open_directly(path) as stream:
            shutil.copyfileobj(written, stream)


def _take_permissions(descriptor: int, target: Path, shown: Path) -> None:
    if not os.access(target, os.W_OK):  # replacing it would ignore that
        raise PermissionError(13, os.strerror(13), str(shown))
    before = target.stat()
    with suppress(OSError):  # of another user
        os.fchown(descriptor, before.st_uid, before.st_gid)
    with suppress(OSError):  # a file system without permissions
        os.fchmod(descriptor, stat.S_IMODE(before.st_mode) & 0o777)


def _descriptor(path: Path) -> int | None:
    """Return the number of the open file that a path stands for, as /dev/stdout does for 1, also through links."""
    text = os.path.abspath(path)
    for _ in range(40):  # links, at most
        found = _DESCRIPTOR.fullmatch(text)
        if found is not None:
            return int(found[2]) if found[2] else _STANDARD[found[1]]
        if not os.path.islink(text):
            return None
        text = os.path.normpath(os.path.join(os.path.dirname(text), os.readlink(text)))
    return None


def _open(place: Path | int, mode: str, shown: Path) -> IO[bytes]:
    with _naming(shown):
        return io.BufferedWriter(_NamedFile(place, mode, shown))


class _NamedFile(io.FileIO):
    """A file whose errors name the path that the user knows."""

    def __init__(self, place: Path | int, mode: str, shown: Path) -> None:
        super().__init__(place, mode)
        self._shown = shown

    def write(self, data: Any) -> int:
        with _naming(self._shown):
            return super().write(data)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
