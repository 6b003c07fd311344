"""Names and errors without folders of this machine and without credentials."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from vlj_edge.errors import VljEdgeError, without_credentials, without_secrets

_PATH = re.compile(r"(?<![\w:/*@.~-])(?!/dev/)~?/(?:[^\s/'\"]+/)*([^\s/'\"]+)")  # absolute, and no part of a URI


def safe_names(names: Iterable[str]) -> dict[str, str]:
    """Return each name as it may be shown. No two are the same."""
    found: dict[str, str] = {}
    for name in names:
        plain = without_credentials(name) if "://" in name else Path(name).name or name
        number, unique = 1, plain
        while unique in found.values():
            number += 1
            unique = f"{plain} {number}"
        found[name] = unique
    return found


def safe_line(error: object, clip: Path | None = None) -> str:
    """Return an error as one line without folders of this machine and credentials, `clip` as "the clip"."""
    text = str(error)
    if clip is not None:
        text = text.replace(str(clip), "the clip").replace(clip.name, "clip")
    return without_secrets(_PATH.sub(r"\1", str(VljEdgeError(text))))
