"""The exception whose message is written for users, and what helps to raise it."""

from __future__ import annotations

import importlib
import re
from collections.abc import Sequence
from types import ModuleType
from typing import Any

_SECRET = r"(?i:user|pass|pwd|token|secret|key|auth)\w*="  # names of URI parameters that cameras use


class VljEdgeError(Exception):
    """A fault that the user can correct. The message is one line: what is wrong, with what, what to do.

    Line breaks and control characters, which quoted paths and other libraries' messages may hold, are replaced.

    >>> str(VljEdgeError("a\\nb.mp4 is missing: check the path"))
    'a b.mp4 is missing: check the path'
    """

    def __init__(self, message: str) -> None:
        super().__init__("".join(c if c.isprintable() else " " if c.isspace() else "?" for c in message))


class SourceBrokeOff(VljEdgeError):
    """A source ended too early: a damaged file, a lost camera. Everything before the break has come out.

    Attributes:
        found: the answers, about the part before the break, to what was asked of the whole source.
    """

    found: Sequence[Any] = ()


def require(module: str, extra: str) -> ModuleType:
    """Import and return a module of an optional package.

    Args:
        module: its full name.
        extra: the extra of vlj-edge that installs the package, for the error.

    Raises:
        VljEdgeError: it is not installed, or cannot be imported.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise VljEdgeError(
            f"{module.split('.')[0]} is needed here and cannot be imported ({error}): pip install 'vlj-edge[{extra}]'"
        ) from error


def without_credentials(uri: str) -> str:
    """Return a URI with user, password and secret parameters replaced, for logs and errors. Paths stay as they are.

    A password may hold an unencoded '@', '/' or '?', so everything up to the last '@' is replaced, even if that '@' is
    part of the path.

    >>> without_credentials("rtsp://me:secret@door/live?channel=1&token=abc")
    'rtsp://***@door/live?channel=1&token=***'
    """
    scheme, mark, rest = uri.partition("://")
    hidden, at, kept = rest.rpartition("@")
    if re.search(rf"{_SECRET}[^&]*\Z", hidden):  # the '@' is in a secret parameter, whose rest is hidden too
        kept = re.sub(r"\A[^&]*", "***", kept)
    kept = re.sub(rf"({_SECRET})[^&]*", r"\1***", kept)
    return f"{scheme}://{at and '***@'}{kept}" if mark else uri
