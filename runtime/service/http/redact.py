"""Names and errors without folders of this machine and without credentials."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from vlj_edge.errors import VljEdgeError, printable, without_credentials, without_secrets

from ..channel import Channel

_PATH = re.compile(r"(?<![\w:/*@.~-])(?!/dev/)~?/(?:[^\s/'\"]+/)*([^\s/'\"]+)")  # absolute, and no part of a URI


def safe_names(names: Iterable[str], given: Collection[str] = ()) -> dict[str, str]:
    """Return each name as it may be shown and stand in an address. No two are the same.

    Args:
        given: those that are no addresses, which are shown with their slashes.
    """
    found: dict[str, str] = {}
    for name in names:
        plain = printable(without_credentials(name) if "://" in name else name if name in given else _last(name))
        number, unique = 1, plain
        while unique in found.values():
            number += 1
            unique = f"{plain} {number}"
        found[name] = unique
    return found


def shown_names(channels: Mapping[str, Channel]) -> dict[str, str]:
    """Return safe_names() of channels, by name."""
    return safe_names(channels, {name for name, channel in channels.items() if channel.settings.is_named})


def _last(path: str) -> str:
    """Return the last part of a path; of . and .., which no address can have, the name of the folder."""
    name = Path(path).name
    return name if name and name != ".." else Path(path).resolve().name or path


def safe_line(error: object, clip: Path | None = None) -> str:
    """Return an error as one line without folders of this machine and credentials, `clip` as "the clip"."""
    text = str(error)
    if clip is not None:
        text = text.replace(str(clip), "the clip").replace(clip.name, "clip")
    return without_secrets(_PATH.sub(r"\1", str(VljEdgeError(text))))
