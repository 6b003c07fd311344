"""Names that people give to sources and alerts. They stand in addresses, topics, headers and lists."""

from __future__ import annotations

import re

from .errors import printable, without_credentials
from .schema import shown

LONGEST = 100  # letters; Home Assistant takes 255 of a source and an alert together


def problem_of_name(name: str) -> str | None:
    """Return what is wrong with a name, as a sentence goes on after it; None if nothing is.

    >>> problem_of_name("hall/left, 1. floor")
    >>> problem_of_name("hall/../left")
    "is 'hall/../left', and no address can have '..' between slashes"
    """
    if not name.strip():
        return "is empty"
    if len(name) > LONGEST:
        return f"has {len(name)} letters, more than {LONGEST}"
    if printable(name) != name:
        return f"is {shown(name)}, with a line break or another character that cannot be shown"
    steps = [step for step in re.split(r"[/\\]", name) if step.strip() in (".", "..")]
    if steps:
        between = " between slashes" if steps != [name] else ""
        return f"is {shown(name)}, and no address can have '{steps[0].strip()}'{between}"
    if without_credentials(name) != name:
        return "is an address with a password or a value, which are never shown"
    return None
