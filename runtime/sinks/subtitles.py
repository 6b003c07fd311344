"""Subtitles as SRT and WebVTT. Each text is shown from when what it tells of began to when that of the next did.

A cue is written when its end is known, that is, when the next text arrives. Times begin at 0 with every run.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TextIO

from vlj_edge.results import Narration

from .console import one_line


class SubtitleWriter(ABC):
    """Writes cues. Each is flushed; call finish() in a `finally`, so that an interruption loses nothing."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._number = 0
        self._current: Narration | None = None

    def add(self, narration: Narration) -> None:
        """Add a text, and write the one before it."""
        self.finish(narration.begins)
        self._current = narration

    def finish(self, end: float) -> None:
        """Write the last text, if there is one, shown until `end` seconds."""
        narration, self._current = self._current, None
        text = "" if narration is None else one_line(narration.text)
        if narration is None or not text:  # an empty line would end the cue before its text
            return
        self._number += 1
        start = narration.begins
        self._stream.write(self._cue(self._number, start, max(end, start + 0.001), text))
        self._stream.flush()

    @staticmethod
    @abstractmethod
    def _cue(number: int, start: float, end: float, text: str) -> str:
        """Return a cue: its number from 1 on, its times in seconds, its text on one line."""


class SrtWriter(SubtitleWriter):
    """SubRip."""

    @staticmethod
    def _cue(number: int, start: float, end: float, text: str) -> str:
        text = text.replace("-->", "->")  # an arrow would start a new cue
        return f"{number}\n{_clock(start, ',')} --> {_clock(end, ',')}\n{text}\n\n"


class VttWriter(SubtitleWriter):
    """WebVTT. Its header is written at once."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        stream.write("WEBVTT\n\n")
        stream.flush()

    @staticmethod
    def _cue(number: int, start: float, end: float, text: str) -> str:
        for char, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):  # and with '>' the arrow, "-->"
            text = text.replace(char, entity)
        return f"{_clock(start, '.')} --> {_clock(end, '.')}\n{text}\n\n"


def _clock(seconds: float, mark: str) -> str:
    minutes, milliseconds = divmod(round(max(seconds, 0.0) * 1000), 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{milliseconds // 1000:02}{mark}{milliseconds % 1000:03}"
