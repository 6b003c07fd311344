"""The one exception that a person is meant to read."""

from __future__ import annotations

import importlib
import re
from types import ModuleType

_SECRET = r"(?i:user|pass|pwd|token|secret|key|auth)\w*="  # a parameter's name, as cameras spell them


class VljEdgeError(Exception):
    """Something a user can mend. The message is one line: what is wrong, with what, what to do.

    It may quote paths, files and other libraries: what cannot be printed on one line is replaced.
    """

    def __init__(self, message: str) -> None:
        super().__init__("".join(c if c.isprintable() else " " if c.isspace() else "?" for c in message))


def require(module: str, extra: str) -> ModuleType:
    """Import an optional package, or say which extra installs it.

    Raises:
        VljEdgeError: the package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise VljEdgeError(
            f"{module.split('.')[0]} is needed here and cannot be imported ({error}): pip install 'vlj-edge[{extra}]'"
        ) from error


def without_credentials(uri: str) -> str:
    """The same URI, fit to be printed: rtsp://***@host/stream?password=***.

    A password that was typed as it is may hold '@', '/' or '?': everything up to the last '@' goes, though a path may
    hold one too.
    """
    scheme, mark, rest = uri.partition("://")
    gone, at, kept = rest.rpartition("@")
    if re.search(rf"{_SECRET}[^&]*\Z", gone):  # the '@' stands in a parameter, which goes on behind it
        kept = re.sub(r"\A[^&]*", "***", kept)
    kept = re.sub(rf"({_SECRET})[^&]*", r"\1***", kept)
    return f"{scheme}://{at and '***@'}{kept}" if mark else uri
