"""The body of an HTTP response as a file that FFmpeg reads."""

from __future__ import annotations

import http.client
import re
import shutil
import tempfile
import threading
from contextlib import suppress
from typing import IO

from .http_client import BROKEN, HttpClient, status_error

_HEAD = 4096  # bytes that are read to identify the content
_PAUSES = (0.0, 0.5, 1.0, 2.0)  # seconds before each attempt to resume a broken connection
_SKIPPED = 1 << 20  # bytes that are skipped by reading rather than by a new request
_LEAST_FREE = 256 << 20  # bytes that a copy leaves free on its disk
_CLOSING = 0.4  # seconds to wait for another thread's interrupted read
_INDEX_OR_FRAGMENTS = (b"moov", b"moof", b"sidx", b"styp")


class HttpBody:
    """A file for av.open(): the body of one response, with Range requests where they help.

    A broken connection is resumed if the server supports it. If it does not, and an MP4's index is at its end, the
    body is copied to a temporary file, because FFmpeg returns to the beginning.

    Args:
        client: sent the request, and resumes it; closed with this object.
        response: to a GET without Range, with status 200.

    Attributes:
        name: its URL, without credentials, to which FFmpeg resolves the relative URLs of a playlist.
        head: its first bytes.

    Raises:
        OSError: it breaks off before its first byte.
    """

    def __init__(self, client: HttpClient, response: http.client.HTTPResponse) -> None:
        self.name = client.url
        self._client, self._response = client, response
        self._reading, self._stop = threading.Lock(), threading.Event()
        length = response.headers["Content-Length"]
        self._length = int(length) if length and re.fullmatch("[0-9]{1,18}", length) and not response.chunked else None
        self._version = response.headers["ETag"] or response.headers["Last-Modified"]
        self._ranges = self._length is not None and "bytes" in response.headers.get("Accept-Ranges", "")
        self._connected: http.client.HTTPResponse | None = response
        self._arrived = 0  # offset of the next byte from the connection
        self._position = 0  # of the next read()
        self._copy: IO[bytes] | None = None
        self.head = b""
        while len(self.head) < _HEAD and (data := self._fetch(_HEAD - len(self.head))):
            self.head += data
            if len(self.head) >= _HEAD or _is_known(self.head):
                break
        if not self._ranges and _needs_seeking(self.head):
            self._copy = tempfile.TemporaryFile(prefix="vlj-edge ")  # noqa: SIM115 (closed with this object)
            self._copy.write(self.head)

    def read(self, count: int) -> bytes:
        """Return some of the next bytes: at least one, none at the end or after close().

        Raises:
            OSError: the connection broke off and could not be resumed, or the disk is full.
        """
        with self._reading:
            try:
                data = b"" if self._stop.is_set() else self._next(count)
                self._position += len(data)
                return data
            finally:
                if self._stop.is_set():
                    self._release()

    def seekable(self) -> bool:
        """Return whether seek() can be used."""
        return self._ranges or self._copy is not None

    def seek(self, offset: int, whence: int = 0) -> int:
        """Seek like a file; return the new position, or -1 if that is impossible."""
        base = {0: 0, 1: self._position, 2: self._length}.get(whence)
        if base is None or base + offset < 0 or not self.seekable():
            return -1
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        """Return the position of the next read()."""
        return self._position

    def close(self) -> None:
        """Cut the connection and remove the copy, which ends a read() in progress. Callable from any thread,
        repeatedly."""
        self._stop.set()
        self._client.close()
        if self._reading.acquire(timeout=_CLOSING):
            try:
                self._release()
            finally:
                self._reading.release()

    def _release(self) -> None:
        self._disconnect()
        if self._copy is not None:
            self._copy.close()

    def _next(self, count: int) -> bytes:
        if self._position < len(self.head):
            return self.head[self._position : self._position + count]
        if self._copy is not None:
            return self._next_of_copy(self._copy, count)
        if not 0 <= self._position - self._arrived <= _SKIPPED:
            self._disconnect()
            self._arrived = self._position
        while self._arrived < self._position:
            if not self._fetch(self._position - self._arrived):
                return b""
        return self._fetch(count)

    def _next_of_copy(self, copy: IO[bytes], count: int) -> bytes:
        while self._arrived <= self._position:  # FFmpeg may skip bytes that it reads later
            data = self._fetch(max(count, 1 << 16))
            if not data:
                return b""
            copy.seek(0, 2)
            copy.write(data)
            if shutil.disk_usage(tempfile.gettempdir()).free < _LEAST_FREE:
                raise OSError(f"no room for a copy in {tempfile.gettempdir()}, which its server makes necessary")
        copy.seek(self._position)
        return copy.read(count)

    def _fetch(self, count: int) -> bytes:
        """Return bytes from the connection, reconnecting if necessary; none at the body's end."""
        if self._length is not None and self._arrived >= self._length:
            return b""
        for pause in _PAUSES:
            if self._stop.wait(pause):
                return b""
            try:
                if self._connected is None and not self._resume():
                    break
                assert self._connected is not None
                data = self._connected.read1(count)
                if data or self._length is None:
                    self._arrived += len(data)
                    return data
            except BROKEN:
                pass
            self._disconnect()
        if self._stop.is_set():
            return b""
        raise OSError("the connection broke off")

    def _resume(self) -> bool:
        """Request the missing rest; return False if the server does not send exactly that."""
        headers = {"Range": f"bytes={self._arrived}-"} | ({"If-Range": self._version} if self._version else {})
        response = self._connected = self._client.get(headers, self.name)
        begin = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
        if response.status in (408, 429, 500, 502, 503, 504):
            raise OSError(status_error(response))
        return response.status == 206 and begin is not None and int(begin[1]) == self._arrived

    def _disconnect(self) -> None:
        connected, self._connected = self._connected, None
        if connected is not None:
            with suppress(*BROKEN):
                connected.close()


def _is_known(head: bytes) -> bool:
    """Return whether the first bytes of a slow body identify its content."""
    return head[:7] != b"#EXTM3U"[: len(head[:7])] and head[4:8] != b"ftyp"[: len(head[4:8])]


def _needs_seeking(head: bytes) -> bool:
    """Return whether a body is an MP4 or MOV whose index may come last."""
    kinds, at = [], 0
    while at + 8 <= len(head):
        kinds.append(head[at + 4 : at + 8])
        at += max(8, int.from_bytes(head[at : at + 4], "big"))
    if not kinds or kinds[0] not in (b"ftyp", b"mdat", b"moov", b"free", b"skip", b"wide"):
        return False
    return not any(kind in _INDEX_OR_FRAGMENTS for kind in kinds)
