"""Texts as lines for a terminal: plain ones for people, JSON for programs."""

from __future__ import annotations

import json

from vlj_edge.results import Narration, Totals


def plain_line(narration: Narration) -> str:
    """Return `  12.5 s  a drawer is opened`, without a line break; the time is the window's centre."""
    return f"{narration.centre:6.1f} s  {one_line(narration.text)}"


def json_line(item: Narration | Totals) -> str:
    """Return a JSON object on one line, without a line break."""
    return json.dumps(item.as_dict(), ensure_ascii=False, allow_nan=False)


def one_line(text: str) -> str:
    """Replace each run of white space, line breaks included, by one space."""
    return " ".join(text.split())
