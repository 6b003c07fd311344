"""Where texts go: lines for people, JSON lines for programs, subtitles. Times are those of the window's centre."""

from __future__ import annotations

import json

from vlj_edge.results import Narration, Totals


def plain_line(narration: Narration) -> str:
    """`  12.5 s  a drawer is opened`, without a line break."""
    return f"{narration.centre:6.1f} s  {one_line(narration.text)}"


def json_line(item: Narration | Totals) -> str:
    """One JSON object on one line, without a line break."""
    return json.dumps(item.as_dict(), ensure_ascii=False, allow_nan=False)


def one_line(text: str) -> str:
    return " ".join(text.split())
