"""What may be shown of names and errors: no folder of this machine, and no credentials."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from vlj_edge.errors import VljEdgeError, without_credentials

_PATH = re.compile(r"(?<![\w:/*@.~-])(?!/dev/)~?/(?:[^\s/'\"]+/)*([^\s/'\"]+)")  # absolute, and no part of a URI


def shown_names(names: Iterable[str]) -> dict[str, str]:
    """Name -> what is shown of it; still no two the same."""
    found: dict[str, str] = {}
    for name in names:
        plain = without_credentials(name) if "://" in name else Path(name).name or name
        number, one = 1, plain
        while one in found.values():
            number += 1
            one = f"{plain} {number}"
        found[name] = one
    return found


def line_of(error: object, clip: Path | None = None) -> str:
    """One line that names no folder of this machine, and no credentials."""
    text = str(error)
    if clip is not None:
        text = text.replace(str(clip), "the clip").replace(clip.name, "clip")
    return without_credentials(_PATH.sub(r"\1", str(VljEdgeError(text))))
