"""Events in files: JSON lines, rotated by size, and subtitles (SRT and WebVTT).

What is written is written by one call of the operating system, so a process that is killed leaves at most its last line
torn. A file has one writer.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import TextIO

from vlj_edge.errors import VljEdgeError
from vlj_edge.results import Narration

from .base import Event
from .console import one_line


class JsonLinesFile:
    """One line an event, as Event.as_dict(), appended to what is there.

    Args:
        most_bytes: before the file would grow beyond it, it becomes path.1, that one path.2 and so on. None: never.
        keep: how many of these are kept beside the file itself.

    Raises:
        VljEdgeError: the file cannot be opened.
    """

    def __init__(self, path: Path | str, most_bytes: int | None = None, keep: int = 5) -> None:
        self._file = _Appended(Path(path))
        self._most, self._keep = most_bytes, keep

    def take(self, event: Event) -> None:
        """See Sink.

        Raises:
            VljEdgeError: it cannot be written; once there is room again, the next one is.
        """
        line = json.dumps(event.as_dict(), ensure_ascii=False, allow_nan=False) + "\n"
        data = line.encode("utf-8", "replace")
        if self._most is not None and (size := self._file.size()) > 0 and size + len(data) > self._most:
            self._file.rotate(self._keep)
        self._file.write(data)

    def close(self) -> None:
        """See Sink."""
        self._file.close()


class VttFile:
    """WebVTT of one source: each text stands from the centre of its window to that of the next, the last to the end of
    its window. A cue is written when its end is known.

    Times are those of the source, which begin at 0 with every run: a file that is there is written anew.

    Raises:
        VljEdgeError: the file cannot be opened.
    """

    def __init__(self, path: Path | str) -> None:
        self._file = _Appended(Path(path), header=b"WEBVTT\n\n", anew=True)
        self._standing: Event | None = None

    def take(self, event: Event) -> None:
        """See Sink. The cue before it is written.

        Raises:
            VljEdgeError: it cannot be written; that cue goes on standing, and the event may be given again.
        """
        self._write(event.narration.centre)
        self._standing = event

    def close(self) -> None:
        """See Sink. The last cue is written."""
        try:
            if self._standing is not None:
                self._write(self._standing.narration.end)
        finally:
            self._standing = None
            self._file.close()

    def _write(self, end: float) -> None:
        if self._standing is None:
            return
        start = self._standing.narration.centre
        text = " ".join(self._standing.narration.text.split())
        if not text:  # an empty line would end the cue before its text
            return
        for char, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):  # and with '>' the arrow, "-->"
            text = text.replace(char, entity)
        cue = f"{_vtt_time(start)} --> {_vtt_time(max(end, start + 0.001))}\n{text}\n\n"
        self._file.write(cue.encode("utf-8", "replace"))


class _Appended:
    """A file that is added to. After an error it is opened again for the next write."""

    def __init__(self, path: Path, header: bytes = b"", anew: bool = False) -> None:
        self._path, self._header = path, header
        self._file: int | None = None
        try:
            self._open(os.O_TRUNC if anew else 0)
        except OSError as error:
            raise self._told(error) from error
        if header:
            self.write(b"")

    def size(self) -> int:
        """Bytes; 0 where there is none."""
        try:
            return self._path.stat().st_size
        except OSError:
            return 0

    def write(self, data: bytes) -> None:
        """All of it or nothing, in one call."""
        try:
            file = self._open() if self._file is None else self._file
            before = os.fstat(file).st_size
            if before == 0:
                data = self._header + data
            if os.write(file, data) < len(data):  # the disk is full, or nearly
                os.ftruncate(file, before)
                raise OSError("there was no room for all of it")
        except OSError as error:
            self.close()
            raise self._told(error) from error

    def rotate(self, keep: int) -> None:
        """The file becomes path.1, path.1 path.2, and what would be path.<keep + 1> is gone."""
        names = [self._path, *(self._path.with_name(f"{self._path.name}.{n}") for n in range(1, keep + 1))]
        self.close()
        try:
            if keep < 1:
                self._path.unlink()
            for old, new in reversed(list(pairwise(names))):
                with suppress(FileNotFoundError):  # killed in the middle of this, an earlier run left a gap
                    old.replace(new)
        except OSError as error:
            raise self._told(error) from error

    def close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):
                os.close(file)

    def _open(self, flags: int = 0) -> int:
        file = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | flags, 0o644)
        try:
            size = os.fstat(file).st_size
            if size and os.pread(file, 1, size - 1) != b"\n":
                os.write(file, b"\n")  # whoever wrote this was killed within a line: what follows stays readable
        except OSError:
            os.close(file)
            raise
        self._file = file
        return file

    def _told(self, error: OSError) -> VljEdgeError:
        return VljEdgeError(
            f"{self._path} cannot be written ({error.strerror or error}): free space, or give another path"
        )


def _vtt_time(seconds: float) -> str:
    minutes, milliseconds = divmod(round(max(seconds, 0.0) * 1000), 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{milliseconds // 1000:02}.{milliseconds % 1000:03}"


class SrtWriter:
    """Subtitles: each text stands from the centre of its window to that of the next, the last to the video's end.

    A cue can be written only when its end is known. Every finished cue is flushed; call finish() in a `finally`, and an
    interruption loses nothing that was said.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._number = 0
        self._current: Narration | None = None

    def add(self, narration: Narration) -> None:
        """Take the next text; the one before it is written."""
        self.finish(narration.centre)
        self._current = narration

    def finish(self, end: float) -> None:
        """Write the text that is standing, as ending at `end` (seconds). Does nothing when none is."""
        narration, self._current = self._current, None
        if narration is None or not narration.text.strip():  # an empty line would end the cue before its text
            return
        self._number += 1
        start = narration.centre
        times = f"{_srt_time(start)} --> {_srt_time(max(end, start + 0.001))}"
        text = one_line(narration.text).replace("-->", "->")  # the arrow would start a cue of its own
        self._stream.write(f"{self._number}\n{times}\n{text}\n\n")
        self._stream.flush()


def _srt_time(seconds: float) -> str:
    milliseconds = round(seconds * 1000)
    hours, rest = divmod(milliseconds, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    return f"{hours:02}:{minutes:02}:{rest // 1000:02},{rest % 1000:03}"
