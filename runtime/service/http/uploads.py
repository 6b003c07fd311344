"""A clip that a client sends: received into a temporary file with every bound checked as it comes, and looked at before
anything decodes it."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastapi import HTTPException, Request
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from vlj_edge.errors import VljEdgeError

from ...video.opencv import import_opencv
from ...video.source import Frame, Source
from ...video.uri import open_source

_MOST_FIELD = 32_768  # bytes of all fields together
_MOST_PARTS = 16
_LONGEST = 600.0  # seconds for a whole upload
_WIDEST, _MOST_PIXELS = 3840, 3840 * 2160
_PIECE = 1 << 18  # bytes that are written at once

# What is no video by its first bytes is opened by nobody: of a playlist FFmpeg would open what it names, which may be
# any file of this machine. Offset, bytes, suffix.
_KINDS = (
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


class TooLong(VljEdgeError):
    """There was no time for more."""


class Form:
    """A multipart form as it comes: its `clip` goes to a file, its other fields are kept.

    Attributes:
        fields: of the parts that are over.
        clips: how many of them there were.
    """

    def __init__(self, boundary: bytes, most: int) -> None:
        self.fields: dict[str, str] = {}
        self.clips, self.clip_bytes, self.ended = 0, 0, False
        self._most, self._parts, self._field_bytes = most, 0, 0
        self._pending, self._value = bytearray(), bytearray()
        self._header, self._header_value, self._name = bytearray(), bytearray(), ""
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": lambda data, start, end: self._header.extend(data[start:end]),
                "on_header_value": lambda data, start, end: self._header_value.extend(data[start:end]),
                "on_header_end": self._take_header,
                "on_part_data": self._take,
                "on_part_end": self._end,
                "on_end": self._finish,
            },
        )

    def feed(self, data: bytes) -> None:
        """The next bytes.

        Raises:
            HTTPException: 413 too much, 422 not what was asked for.
        """
        try:
            self._parser.write(data)
        except MultipartParseError:
            raise HTTPException(422, "the form is damaged: send it as multipart/form-data again") from None

    def piece(self) -> bytes:
        """What has come of the clip since the last time."""
        data, self._pending = bytes(self._pending), bytearray()
        return data

    @property
    def waiting(self) -> int:
        """Bytes of that."""
        return len(self._pending)

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > _MOST_PARTS:
            raise HTTPException(422, f"the form has more than {_MOST_PARTS} parts: send the clip and its fields alone")
        self._name, self._value = "", bytearray()

    def _take_header(self) -> None:
        if bytes(self._header).lower() == b"content-disposition":
            _, options = parse_options_header(bytes(self._header_value))
            self._name = options.get(b"name", b"").decode("utf-8", "replace")
            self.clips += self._name == "clip"
        self._header, self._header_value = bytearray(), bytearray()

    def _take(self, data: bytes, start: int, end: int) -> None:
        if self._name == "clip":
            self.clip_bytes += end - start
            if self.clip_bytes > self._most:
                raise HTTPException(413, f"the clip has more than {self._most} bytes: send a shorter one")
            self._pending += data[start:end]
            return
        self._field_bytes += end - start
        if self._field_bytes > _MOST_FIELD:
            raise HTTPException(413, f"the fields have more than {_MOST_FIELD} bytes: send less text")
        self._value += data[start:end]

    def _end(self) -> None:
        if self._name == "clip":
            return
        try:
            self.fields[self._name] = self._value.decode("utf-8")
        except UnicodeDecodeError:
            raise HTTPException(422, f"{self._name[:40]} is not UTF-8 text: send it as UTF-8") from None

    def _finish(self) -> None:
        self.ended = True


async def received(request: Request, folder: Path, most: int, patience: float) -> tuple[Path, dict[str, str]]:
    """The clip as a file in the folder, and the form's other fields.

    Raises:
        HTTPException: 408 it stopped coming, 413 too much, 422 not what was asked for.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind != b"multipart/form-data" or not 0 < len(options.get(b"boundary", b"")) <= 200:
        raise HTTPException(422, "there is no form: send multipart/form-data with a video file as clip")
    form, incoming = Form(options[b"boundary"], most), folder / "incoming"
    pieces = _pieces(request, patience)
    try:
        with incoming.open("wb") as file:
            async for data in pieces:
                form.feed(data)
                if form.waiting >= _PIECE:
                    await asyncio.to_thread(file.write, form.piece())
            await asyncio.to_thread(file.write, form.piece())
    except HTTPException:
        await _drained(pieces, most)
        raise
    if not form.ended:
        raise HTTPException(422, "the form breaks off: send it again")
    if form.clips != 1:
        raise HTTPException(422, "there must be one clip: send one video file in the field clip")
    return await asyncio.to_thread(_known, incoming), form.fields


async def _pieces(request: Request, patience: float) -> Any:
    until = time.monotonic() + _LONGEST
    while True:
        try:
            message = await asyncio.wait_for(request.receive(), min(patience, max(until - time.monotonic(), 0.0)))
        except asyncio.TimeoutError:
            raise HTTPException(408, "the upload stopped coming: send it again") from None
        if message["type"] == "http.disconnect":
            raise HTTPException(422, "the upload broke off: send it again")
        yield message.get("body", b"")
        if not message.get("more_body", False):
            return


async def _drained(pieces: Any, most: int) -> None:
    """Take some of what still comes: a client that is told while it sends may never read the answer."""
    came = 0
    try:
        async for data in pieces:
            came += len(data)
            if came > most:
                return
    except HTTPException:
        return


def _known(incoming: Path) -> Path:
    """The file under the suffix of its kind."""
    with incoming.open("rb") as file:
        head = file.read(512)
    for offset, mark, suffix in _KINDS:
        if head[offset : offset + len(mark)] == mark and (suffix != ".ts" or head[:1] == b"\x47"):
            return incoming.rename(incoming.with_name(f"clip{suffix}"))
    raise HTTPException(422, "the clip is no video that is known here: send MP4, MOV, MKV, WebM, AVI, MPEG, FLV or Ogg")


def opened(clip: Path, until: float, closing: Any) -> Source:
    """The frames of a clip, for as long as there is time.

    Raises:
        VljEdgeError: it cannot be read, or its pictures are too large.
    """
    cv2 = import_opencv()
    capture = cv2.VideoCapture(str(clip))
    try:
        width, height = capture.get(cv2.CAP_PROP_FRAME_WIDTH), capture.get(cv2.CAP_PROP_FRAME_HEIGHT)
        readable = capture.isOpened()
    finally:
        capture.release()
    if not readable:
        raise VljEdgeError("the clip cannot be read as a video: convert it with ffmpeg, or record it again")
    if max(width, height) > _WIDEST or width * height > _MOST_PIXELS:
        raise VljEdgeError(f"the clip's pictures are {width:.0f}x{height:.0f}: send one of at most 3840x2160")
    return _Timed(open_source(clip), until, closing)


class _Timed(Source):
    """A source that ends with an error where its time is over."""

    def __init__(self, source: Source, until: float, closing: Any) -> None:
        self._source, self._until, self._closing = source, until, closing
        self.period = source.period

    def frames(self) -> Iterator[Frame]:
        """See Source."""
        for frame in self._source:
            in_time(self._until, self._closing)
            yield frame
        self.incomplete = self._source.incomplete

    def close(self) -> None:
        """See Source."""
        self._source.close()


def in_time(until: float, closing: Any) -> None:
    """Raises TooLong: there is no more time."""
    if time.monotonic() > until or closing.is_set():
        raise TooLong("the clip takes longer than it may: send a shorter one")


def scratch() -> tempfile.TemporaryDirectory[str]:
    """A folder for one clip."""
    return tempfile.TemporaryDirectory(prefix="vlj-edge-clip-", ignore_cleanup_errors=True)
