"""Where texts go: lines for people, JSON lines for programs, subtitles. Times are those of the window's centre."""

from __future__ import annotations

import json
from typing import TextIO

from vlj_edge.results import Narration, Totals


def plain_line(narration: Narration) -> str:
    """`  12.5 s  a drawer is opened`, without a line break."""
    return f"{narration.centre:6.1f} s  {_one_line(narration.text)}"


def json_line(item: Narration | Totals) -> str:
    """One JSON object on one line, without a line break."""
    return json.dumps(item.as_dict(), ensure_ascii=False, allow_nan=False)


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
        text = _one_line(narration.text).replace("-->", "->")  # the arrow would start a cue of its own
        self._stream.write(f"{self._number}\n{times}\n{text}\n\n")
        self._stream.flush()


def _srt_time(seconds: float) -> str:
    milliseconds = round(seconds * 1000)
    hours, rest = divmod(milliseconds, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    return f"{hours:02}:{minutes:02}:{rest // 1000:02},{rest % 1000:03}"


def _one_line(text: str) -> str:
    return " ".join(text.split())
