"""JSON for lines that people see as well: what a terminal would obey or not show is written as an escape."""

from __future__ import annotations

import json
import math
import re
from typing import Any


def json_text(value: Any) -> str:
    """Return JSON on one line. It means exactly the value, and every character of it is printable. A number that JSON
    has not, such as infinity, is null.

    >>> json_text({"file": "caf\\u00e9 \\x1b[31m \\u202e"})
    '{"file": "café \\\\u001b[31m \\\\u202e"}'
    """
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(value), ensure_ascii=False, allow_nan=False)
    return with_escapes(text)


def with_escapes(text: str) -> str:
    """Return JSON, of any number of lines, with unprintable characters as escapes, which mean the same."""
    return text if text.isprintable() else re.sub(r"[^\n -~]", _escape, text.replace("\r", ""))


def escape_unencodable(error: UnicodeError) -> tuple[str, int]:
    """An error handler of codecs: what an encoding has not becomes an escape of JSON, in which it means the same."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_unit_escapes(character) for character in error.object[error.start : error.end]), error.end


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _escape(found: re.Match[str]) -> str:
    character = found[0]
    if character.isprintable() or character == "\t":
        return character.replace("\t", " ")
    return _unit_escapes(character)


def _unit_escapes(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))
