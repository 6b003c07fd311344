"""What was fetched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .names import Name


@dataclass(frozen=True)
class Repository:
    """A repository at one commit, whose files are on this disk and match their hashes.

    Attributes:
        name: as it was asked for.
        endpoint: the address of the hub.
        commit: 40 hexadecimal digits.
        licence: the owner's tag, such as "apache-2.0"; None: the repository names none, or that is not known offline.
        gated: whether a licence has to be accepted; None: not known offline.
        directory: holds `files`; the cache may hold others of the same commit there, which were not checked.
        files: sha256 by file name.
    """

    name: Name
    endpoint: str
    commit: str
    licence: str | None
    gated: bool | None
    directory: Path
    files: Mapping[str, str]

    def receipt(self) -> dict[str, Any]:
        """Return the entry of a bundle's receipt, for JSON."""
        return {
            "repository": self.name.repository,
            "revision": self.name.revision,
            "endpoint": self.endpoint,
            "commit": self.commit,
            "licence": self.licence,
            "gated": self.gated,
            "sha256": dict(self.files),
        }
