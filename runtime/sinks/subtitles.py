"""Subtitles as SRT and WebVTT. Each text is shown from the centre of its window to that of the next.

A cue can be written only when its end is known, which is when the next text comes.
"""

from __future__ import annotations

from pathlib import Path
from typing import TextIO

from vlj_edge.results import Narration

from .base import Event
from .console import one_line
from .files import AppendFile


class SrtWriter:
    """SRT. Every complete cue is flushed; call finish() in a `finally`, so that an interruption loses nothing."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._number = 0
        self._current: Narration | None = None

    def add(self, narration: Narration) -> None:
        """Add a text, and write the one before it."""
        self.finish(narration.centre)
        self._current = narration

    def finish(self, end: float) -> None:
        """Write the current text, if there is one, with its end at `end` seconds."""
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


class VttFile:
    """A sink that writes WebVTT for one source. The last text is shown to the end of its window.

    Times begin at 0 with every run, so an existing file is overwritten.

    Raises:
        VljEdgeError: the file cannot be opened.
    """

    def __init__(self, path: Path | str) -> None:
        self._file = AppendFile(Path(path), header=b"WEBVTT\n\n", truncate=True)
        self._current: Event | None = None

    def write(self, event: Event) -> None:
        """See Sink. Writes the cue before this one.

        Raises:
            VljEdgeError: that cue cannot be written. It stays the current one, and the event may be passed again.
        """
        self._write_cue(event.narration.centre)
        self._current = event

    def close(self) -> None:
        """See Sink. Writes the last cue."""
        try:
            if self._current is not None:
                self._write_cue(self._current.narration.end)
        finally:
            self._current = None
            self._file.close()

    def _write_cue(self, end: float) -> None:
        if self._current is None:
            return
        self._file.write(vtt_cue(self._current.narration, end).encode("utf-8", "replace"))


def vtt_cue(narration: Narration, end: float) -> str:
    """Return the WebVTT cue of a text that is shown until `end`, seconds; nothing for an empty text."""
    start, text = narration.centre, one_line(narration.text)
    if not text:  # an empty line would end the cue before its text
        return ""
    for char, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):  # and with '>' the arrow, "-->"
        text = text.replace(char, entity)
    return f"{_vtt_time(start)} --> {_vtt_time(max(end, start + 0.001))}\n{text}\n\n"


def _vtt_time(seconds: float) -> str:
    minutes, milliseconds = divmod(round(max(seconds, 0.0) * 1000), 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{milliseconds // 1000:02}.{milliseconds % 1000:03}"
