"""Console output as text and as JSON lines."""

from __future__ import annotations

import json

import pytest

from vlj_edge.results import Narration, Totals
from vlj_edge.runtime.sinks.console import json_line, plain_line


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


def test_json_line_is_one_line_and_comes_back() -> None:
    line = json_line(Narration(0.5, 2.5, "Tür\nzu", "memory", 0.25))
    assert "\n" not in line
    assert "ü" in line
    assert json.loads(line) == {"start": 0.5, "end": 2.5, "text": "Tür\nzu", "origin": "memory", "similarity": 0.25}


def test_totals_without_decodes_are_json() -> None:
    assert json.loads(json_line(Totals(windows=3)))["decodes_saved"] is None
