"""Uploaded clips: received into a temporary file, with all limits checked as the bytes arrive, and identified as video
before they are decoded."""

from __future__ import annotations

import asyncio
import logging
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
from fastapi import HTTPException, Request
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from vlj_edge.errors import VljEdgeError, printable

from ...video.recordings.untrusted import UntrustedFile
from ...video.source import Frame, Source, WrappedSource

logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # it logs every malformed byte of a stranger
_MAX_FIELD_BYTES = 32_768  # of all fields together
_MAX_PARTS = 16
_MAX_UPLOAD_SECONDS = 600.0
_LEAST_RATE = 4096  # bytes a second, on average
_TOO_LONG = "the clip takes longer than it may: send a shorter one"
_WRITE_SIZE = 1 << 18  # bytes written at once

# A file whose first bytes are not those of a video is never opened: given a playlist, FFmpeg would open the files that
# it names, which may be any on this machine. Offset, bytes, suffix.
_SIGNATURES = (
    (4, b"ftyp", ".mp4"),
    (4, b"moov", ".mov"),
    (4, b"mdat", ".mov"),
    (4, b"wide", ".mov"),
    (4, b"free", ".mov"),
    (0, b"\x1a\x45\xdf\xa3", ".mkv"),
    (8, b"AVI ", ".avi"),
    (0, b"\x00\x00\x01\xba", ".mpg"),
    (188, b"\x47", ".ts"),
    (0, b"FLV\x01", ".flv"),
    (0, b"OggS", ".ogv"),
)
_BEGINNINGS = {".ts": b"\x47", ".avi": b"RIFF"}


class TookTooLong(VljEdgeError):
    """The time limit for processing a clip has passed."""


class Form:
    """Parses a multipart form as its bytes arrive.

    Attributes:
        fields: the complete fields other than the clip, by name.
        clips: number of parts called "clip".
        ended: True once the form is complete.
    """

    def __init__(self, boundary: bytes, max_clip: int) -> None:
        self.fields: dict[str, str] = {}
        self.clips, self.clip_bytes, self.ended = 0, 0, False
        self._max_clip, self._parts, self._field_bytes = max_clip, 0, 0
        self._pending, self._value = bytearray(), bytearray()
        self._header, self._header_value, self._name = bytearray(), bytearray(), ""
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin_part,
                "on_header_field": lambda data, start, end: self._header.extend(data[start:end]),
                "on_header_value": lambda data, start, end: self._header_value.extend(data[start:end]),
                "on_header_end": self._end_header,
                "on_part_data": self._add_data,
                "on_part_end": self._end_part,
                "on_end": self._end_form,
            },
        )

    def feed(self, data: bytes) -> None:
        """Parse the next bytes.

        Raises:
            HTTPException: 413 too large, 422 malformed.
        """
        try:
            self._parser.write(data)
        except MultipartParseError:
            raise HTTPException(422, "the form is malformed: send multipart/form-data") from None

    def take_clip_data(self) -> bytes:
        """Return the bytes of the clip that arrived since the last call."""
        data, self._pending = bytes(self._pending), bytearray()
        return data

    @property
    def waiting(self) -> int:
        """Number of bytes that take_clip_data() would return."""
        return len(self._pending)

    def _begin_part(self) -> None:
        self._parts += 1
        if self._parts > _MAX_PARTS:
            raise HTTPException(422, f"the form has more than {_MAX_PARTS} parts: send the clip and its fields alone")
        self._name, self._value = "", bytearray()

    def _end_header(self) -> None:
        if bytes(self._header).lower() == b"content-disposition":
            _, options = parse_options_header(bytes(self._header_value))
            self._name = options.get(b"name", b"").decode("utf-8", "replace")
            self.clips += self._name == "clip"
        self._header, self._header_value = bytearray(), bytearray()

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        if self._name == "clip":
            self.clip_bytes += end - start
            if self.clip_bytes > self._max_clip:
                raise HTTPException(413, f"the clip has more than {self._max_clip} bytes: send a shorter one")
            self._pending += data[start:end]
            return
        self._field_bytes += end - start
        if self._field_bytes > _MAX_FIELD_BYTES:
            name = printable(self._name[:40])
            raise HTTPException(413, f"{name} has more than {_MAX_FIELD_BYTES} bytes: a video goes into the field clip")
        self._value += data[start:end]

    def _end_part(self) -> None:
        if self._name == "clip":
            return
        try:
            self.fields[self._name] = self._value.decode("utf-8")
        except UnicodeDecodeError:
            raise HTTPException(422, f"{printable(self._name[:40])} is not UTF-8 text: send it as UTF-8") from None

    def _end_form(self) -> None:
        self.ended = True


async def receive_clip(request: Request, folder: Path, max_clip: int, patience: float) -> tuple[Path, dict[str, str]]:
    """Return the uploaded clip as a file in the folder, and the form's other fields.

    Args:
        max_clip: bytes.
        patience: seconds within which the next bytes must arrive.

    Raises:
        HTTPException: 408 the upload stopped, 413 too large, 422 malformed.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind != b"multipart/form-data" or not 0 < len(options.get(b"boundary", b"")) <= 200:
        raise HTTPException(422, "there is no form: send multipart/form-data with a video file as clip")
    form, incoming = Form(options[b"boundary"], max_clip), folder / "incoming"
    pieces = _pieces(request, patience)
    try:
        with incoming.open("wb") as file:
            async for data in pieces:
                form.feed(data)
                if form.waiting >= _WRITE_SIZE:
                    await asyncio.to_thread(file.write, form.take_clip_data())
            await asyncio.to_thread(file.write, form.take_clip_data())
    except HTTPException:
        await _drain(pieces, max_clip)
        raise
    if not form.ended:
        raise HTTPException(422, "the form breaks off: send it again")
    if form.clips != 1:
        raise HTTPException(422, "there must be one clip: send one video file in the field clip")
    return await asyncio.to_thread(_identify, incoming), form.fields


async def _pieces(request: Request, patience: float) -> Any:
    begun, received = time.monotonic(), 0
    while True:
        # A client that sends a byte now and then would hold a place for as long as it likes.
        until = begun + min(patience + received / _LEAST_RATE, _MAX_UPLOAD_SECONDS)
        try:
            with anyio.fail_after(min(patience, max(until - time.monotonic(), 0.0))):
                message = await request.receive()
        except TimeoutError:
            raise HTTPException(408, "the upload stopped coming: send it again") from None
        if message["type"] == "http.disconnect":
            raise HTTPException(422, "the upload broke off: send it again")
        received += len(message.get("body", b""))
        yield message.get("body", b"")
        if not message.get("more_body", False):
            return


async def _drain(pieces: Any, max_bytes: int) -> None:
    """Read some of the rest of a request: a client that gets a response while it sends may never read it."""
    received = 0
    try:
        async for data in pieces:
            received += len(data)
            if received > max_bytes:
                return
    except HTTPException:
        return


def _identify(incoming: Path) -> Path:
    """Return the file renamed to the suffix of its format. Raises HTTPException: 422, the format is unknown."""
    with incoming.open("rb") as file:
        head = file.read(512)
    for offset, mark, suffix in _SIGNATURES:
        if head[offset : offset + len(mark)] == mark and head.startswith(_BEGINNINGS.get(suffix, b"")):
            return incoming.rename(incoming.with_name(f"clip{suffix}"))
    raise HTTPException(
        422, "the clip is in no supported video format: send MP4, MOV, MKV, WebM, AVI, MPEG, FLV or Ogg"
    )


def open_clip(clip: Path, until: float, closing: threading.Event) -> Source:
    """Return the frames of a clip, which a process of its own decodes; reading fails with TookTooLong after `until` or
    once `closing` is set.

    Args:
        until: a time.monotonic().

    Raises:
        VljEdgeError: the clip cannot be read, or takes more memory than it may.
    """
    check_time(until, closing)
    try:
        return _TimedSource(UntrustedFile(clip, "the clip", until, closing), until, closing)
    except TimeoutError:
        raise TookTooLong(_TOO_LONG) from None


class _TimedSource(WrappedSource):
    """A source that raises TookTooLong after its time limit."""

    def __init__(self, source: Source, until: float, closing: threading.Event) -> None:
        super().__init__(source)
        self._until, self._closing = until, closing

    def frames(self) -> Iterator[Frame]:
        """See Source."""
        try:
            for frame in self._source:
                check_time(self._until, self._closing)
                yield frame
        except TimeoutError:
            raise TookTooLong(_TOO_LONG) from None
        self.incomplete = self._source.incomplete


def check_time(until: float, closing: threading.Event) -> None:
    """Raises TookTooLong: `until` has passed or `closing` is set."""
    if time.monotonic() > until or closing.is_set():
        raise TookTooLong(_TOO_LONG)


def temporary_folder() -> tempfile.TemporaryDirectory[str]:
    """Return a folder for one clip."""
    return tempfile.TemporaryDirectory(prefix="vlj-edge-clip-", ignore_cleanup_errors=True)


@contextmanager
def full_disk_as_507() -> Iterator[None]:
    """Turn an OSError into a response: 507, there is no room for the clip."""
    try:
        yield
    except OSError as error:
        line = f"the clip cannot be stored ({error.strerror or error}): free space in the server's TMPDIR"
        raise HTTPException(507, line) from None
