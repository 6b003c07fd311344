"""Texts as lines for a terminal: plain ones for people, JSON for programs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from vlj_edge.errors import printable
from vlj_edge.json_text import json_text
from vlj_edge.results import Narration

from .base import Event


def plain_line(narration: Narration) -> str:
    """Return `  12.5 s  a drawer is opened`, without a line break; the time is when it began. What stands in for the
    words of another model is marked."""
    mark = "  (stands in)" if narration.stand_in else ""
    return f"{narration.begins:6.1f} s  {printable(one_line(narration.text))}{mark}"


class JsonEvents:
    """Events as JSON lines, Event.as_dict() each.

    The line of a recording's event is written when the next event shows its end. An event of a live source is written
    at once, without its end.

    Args:
        write: called with each line, without a line break.
    """

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._waiting: dict[str, Event] = {}  # by source

    def add(self, event: Event, live: bool) -> None:
        """Add the next event of a source; write the one before it, and a live one."""
        self.finish(event.source, event.narration.begins)
        if live:
            self._write_line(event)
        else:
            self._waiting[event.source] = event

    def finish(self, source: str, end: float) -> None:
        """Write the last event of a source, if it waits, with its end at `end` seconds."""
        event = self._waiting.pop(source, None)
        if event is not None:
            self._write_line(replace(event, end=max(end, event.narration.begins)))

    def _write_line(self, event: Event) -> None:
        self._write(json_text(event.as_dict()))


def one_line(text: str) -> str:
    """Replace each run of white space, line breaks included, by one space."""
    return " ".join(text.split())
