"""Subtitles as SRT and WebVTT. Each text is shown from when what it tells of began to when that of the next did.

A cue is written when its end is known, that is, when the next text arrives. Times begin at 0 with every run.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TextIO

from vlj_edge.results import Narration

from .console import one_line

_MOST_WAITING = 100


class SubtitleWriter(ABC):
    """Writes cues. Each is flushed; call finish() in a `finally`, so that an interruption loses nothing."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._number = 0
        self._waiting: list[Narration] = []  # the last text, or all that an answer may still replace
        self._final = -math.inf  # seconds: what begins until then is not replaced any more

    def add(self, narration: Narration) -> None:
        """Add a text, and write those before it. One that stands in waits for the answer, which replaces it."""
        others = [each for each in self._waiting if each.begins != narration.begins or not each.stand_in]
        later = [each for each in others if each.stand_in and each.begins > narration.begins]
        self._waiting = [*others[: len(others) - len(later)], narration, *later]
        if not narration.stand_in:  # answers come in order
            self._final = max(self._final, narration.begins)
        while len(self._waiting) > 1 and (self._waiting[0].begins <= self._final or len(self._waiting) > _MOST_WAITING):
            first = self._waiting.pop(0)
            self._write(first, self._waiting[0].begins)

    def finish(self, end: float) -> None:
        """Write the texts that are left, the last one shown until `end` seconds."""
        while self._waiting:
            first = self._waiting.pop(0)
            self._write(first, self._waiting[0].begins if self._waiting else end)

    def _write(self, narration: Narration, end: float) -> None:
        text = one_line(narration.text)
        if not text:  # an empty line would end the cue before its text
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
