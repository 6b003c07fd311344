"""Sources as the command line names them: NAME=SOURCE, or SOURCE alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import without_credentials

if TYPE_CHECKING:
    from vlj_edge.runtime.service.settings import SourceSettings


def parse_sources(arguments: tuple[str, ...], query: str | None, rotate: int = 0) -> list[SourceSettings]:
    """Return the settings of each source. One without a name is named after its address, without credentials."""
    from vlj_edge.runtime.service.settings import SourceSettings

    found = []
    for argument in arguments:
        name, mark, uri = argument.partition("=")
        if not mark or any(c in name for c in "/:?."):  # rtsp://host/?a=b and ./a=b.mp4 have no name, a=b.mp4 has one
            name, uri = without_credentials(argument), argument
        found.append(SourceSettings(name, uri, query, rotate=rotate))
    return found
