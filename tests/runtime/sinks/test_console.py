"""Console output as text and as JSON lines."""

from __future__ import annotations

import json

import pytest

from vlj_edge.results import Narration
from vlj_edge.runtime.sinks.base import Event
from vlj_edge.runtime.sinks.console import JsonEvents, plain_line


def narration(centre: float, text: str) -> Narration:
    return Narration(centre - 1, centre + 1, text, "decoder")


@pytest.mark.parametrize(
    "centre, text, line",
    [
        (12.5, "a drawer", "  12.5 s  a drawer"),
        (1.0, " two\n\nlines ", "   1.0 s  two lines"),
        (86400.25, "x", "86400.2 s  x"),
    ],
)
def test_plain_line(centre: float, text: str, line: str) -> None:
    assert plain_line(narration(centre, text)) == line


def event(source: str, centre: float, text: str = "a drawer") -> Event:
    return Event(source, narration(centre, text), 1.7e9, 1)


def test_a_json_line_is_one_line_and_comes_back() -> None:
    lines: list[str] = []
    JsonEvents(lines.append).add(Event("door", Narration(0.5, 2.5, "Tür\nzu", "memory", 0.25), 1.7e9, 3), live=True)
    [line] = lines
    assert "\n" not in line and "ü" in line
    window = {"start": 0.5, "end": 2.5, "event_start": 1.5, "event_end": None}
    about = {"source": "door", "number": 3, "clock": 1.7e9}
    found = json.loads(line)
    assert found.pop("id")
    assert found == about | window | {"text": "Tür\nzu", "origin": "memory", "similarity": 0.25}


def test_an_event_of_a_recording_ends_where_the_next_one_of_its_source_begins() -> None:
    lines: list[str] = []
    written = JsonEvents(lines.append)
    for source, centre in (("a", 1.0), ("b", 2.0), ("a", 4.0), ("b", 7.0)):
        written.add(event(source, centre), live=False)
    written.finish("a", 9.0)
    written.finish("b", 6.5)
    written.finish("b", 8.0)
    found = [(line["source"], line["event_start"], line["event_end"]) for line in map(json.loads, lines)]
    assert found == [("a", 1.0, 4.0), ("b", 2.0, 7.0), ("a", 4.0, 9.0), ("b", 7.0, 7.0)]
