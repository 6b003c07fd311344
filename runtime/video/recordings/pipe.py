"""Bytes that another program writes to a pipe, as a file object whose reads can be interrupted."""

from __future__ import annotations

import os
import re
import tempfile
import threading
from typing import Any, Literal

from ..readable import is_readable

_POLL = 0.1  # seconds between two checks of whether this was closed
_CHUNK = 1 << 16
_MOST_SNIFFED = 1 << 20
_JPEG = b"\xff\xd8\xff"
# Boxes at the top level of MP4 and QuickTime files that may come before the index or the pictures.
_BOXES = (b"ftyp", b"styp", b"free", b"skip", b"wide", b"uuid", b"pnot", b"moov", b"moof", b"mdat")

Content = Literal["jpegs", "late index", "other", "nothing"]


class Pipe:
    """Bytes from a file descriptor. A read returns the available bytes, and waits for at least one.

    Args:
        descriptor: open for reading; it stays open.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._head, self._closed = descriptor, b"", threading.Event()

    def read(self, count: int) -> bytes:
        """Return at most `count` bytes; none at the end, or once this was closed."""
        if self._head:
            found, self._head = self._head[:count], self._head[count:]
            return found
        return self._receive(count)

    def close(self) -> None:
        """End a read that waits. The descriptor stays open."""
        self._closed.set()

    def content(self, raw: bool) -> Content:
        """Identify the content from as few of its first bytes as possible. read() still returns these bytes.

        Args:
            raw: only wait for the first byte.
        """
        found: Content | None = None
        while found is None:
            more = self._receive(_CHUNK)
            self._head += more
            found = "other" if raw and more else _content(self._head, ended=not more)
        return found

    def spool(self, file: Any) -> None:
        """Write everything to a file.

        Raises:
            OSError: the disk is full.
        """
        while chunk := self.read(_CHUNK):
            file.write(chunk)

    def _receive(self, count: int) -> bytes:
        while not self._closed.is_set():
            if is_readable(self._descriptor, _POLL):
                return os.read(self._descriptor, count)
        return b""


def spool_file() -> Any:
    """Return a temporary file without a name, which is deleted when it is closed."""
    return tempfile.TemporaryFile(prefix="vlj-edge-", buffering=0)


def content_of(head: bytes) -> Content:
    """Return the kind of content that begins with these bytes."""
    return _content(head, ended=True) or "other"


def _content(head: bytes, ended: bool) -> Content | None:
    """Return the kind of content that begins with these bytes; None if more are needed."""
    if ended and not head:
        return "nothing"
    plain = head.lstrip(b"\0\r\n\t ")
    if plain.startswith(_JPEG) or re.match(rb"--[^\xff]{,4096}\xff\xd8\xff", plain, re.DOTALL):
        return "jpegs"
    if plain.startswith(b"--") and len(plain) < 4096 and not ended and b"\xff" not in plain:  # a boundary
        return None
    if (_JPEG.startswith(plain) and len(plain) < len(_JPEG) and len(head) < _MOST_SNIFFED) or len(head) < 8:
        return "other" if ended else None
    if head[4:8] not in _BOXES:
        return "other"
    return _first_of_mp4(head, ended)


def _first_of_mp4(head: bytes, ended: bool) -> Content | None:
    """Return whether the index of an MP4, or a fragment of it, comes before its pictures."""
    at = 0
    while len(head) >= at + 16:
        size, name = int.from_bytes(head[at : at + 4], "big"), head[at + 4 : at + 8]
        if name in (b"moov", b"moof") or name not in _BOXES:
            return "other"
        if size == 1:
            size = int.from_bytes(head[at + 8 : at + 16], "big")
        if name == b"mdat" or size < 8:
            return "late index"
        at += size
    return "late index" if ended or at > _MOST_SNIFFED else None
