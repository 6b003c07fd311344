"""Sources in the form of the command line: NAME=SOURCE, or SOURCE alone."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ..errors import WrongCall, valid_unicode, without_credentials
from ..names import problem_of_name

if TYPE_CHECKING:
    from vlj_edge.runtime.service.settings import SourceSettings

    from .part_options import PartOptions


def parse_sources(
    arguments: tuple[str, ...], query: str | None, part: PartOptions, loop: bool = False
) -> list[SourceSettings]:
    """Return the settings of each source. Addresses without a name that are shown alike are numbered.

    Raises:
        WrongCall: a name cannot be used.
    """
    from vlj_edge.runtime.service.settings import SourceSettings

    found: dict[str, str] = {}  # name -> address
    settings = []
    for argument in arguments:
        name, uri = name_and_uri(argument)
        if argument != uri and (problem := problem_of_name(name)):
            raise WrongCall(f"the name of {without_credentials(uri)} {problem}: give it another, as NAME=SOURCE")
        number, plain = 1, name
        while argument == uri and found.get(name, uri) != uri:
            number += 1
            name = f"{plain} {number}"
        found[name] = uri
        settings.append(SourceSettings(name, uri, query, loop=loop, rotate=part.rotate, part=part.part))
    return settings


def name_and_uri(argument: str) -> tuple[str, str]:
    """Return the name and the URI of a source. One without a name is named after its address, without credentials.

    A path that exists is a path, even if it has an equals sign.
    """
    name, mark, uri = argument.partition("=")
    if not mark or not name or not uri or os.path.exists(argument) or not _is_name(name, uri):
        return without_credentials(argument), argument
    return valid_unicode(name), uri


def _is_name(text: str, uri: str) -> bool:
    """Return whether what stands before an equals sign is a name: in a=b.mp4, and in front/a.1=rtsp://b, but not in
    rtsp://host/?a=b, ./a=b.mp4 and c/a=b.mp4, unless there is a b.mp4."""
    if ":" in text or text.startswith((".", "/", "~")):
        return False
    return not any(c in text for c in "/?.") or "://" in uri or os.path.exists(uri)
