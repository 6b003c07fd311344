"""The exception whose message is written for users, and helpers for its messages."""

from __future__ import annotations

import importlib
import re
from collections.abc import Sequence
from types import ModuleType
from typing import Any

_SECRET = r"(?i:user|pass|pwd|token|secret|key|auth)\w*="  # names of URI parameters that cameras use


class VljEdgeError(Exception):
    """A fault that the user can correct. The message is one line: what is wrong, with what, what to do.

    The message is made printable(): quoted paths and other libraries' messages may hold anything.

    >>> str(VljEdgeError("a\\nb.mp4 is missing: check the path"))
    'a b.mp4 is missing: check the path'
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


def printable(text: str) -> str:
    """Return a text that a terminal shows as one line: line breaks become spaces, control characters "?", and bytes of
    file names that are not UTF-8 become escapes.

    >>> printable("a\\nb\\x07\\udcff.mp4")
    'a b?\\\\xff.mp4'
    """
    return "".join(c if c.isprintable() else " " if c.isspace() else "?" for c in valid_unicode(text))


def valid_unicode(text: str) -> str:
    """Return a text that can be encoded as UTF-8: bytes of file names that are not UTF-8 become escapes.

    >>> valid_unicode("caf\\udce9.mp4")
    'caf\\\\xe9.mp4'
    """
    return re.sub("[\ud800-\udfff]", lambda found: f"\\x{ord(found[0]) & 0xFF:02x}", text)


class SourceBrokeOff(VljEdgeError):
    """A source ended too early: a damaged file, a lost camera. Everything before the break has been yielded.

    Attributes:
        found: results for the part before the break, where the call was about the whole source.
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
    """Return a URI with user, password and secret parameters replaced, for logs and errors. In paths, only bytes that
    are not UTF-8 are replaced, see valid_unicode().

    A password may hold an unencoded '@', '/' or '?', so everything up to the last '@' is replaced, even if that '@' is
    part of the path.

    >>> without_credentials("rtsp://me:secret@door/live?channel=1&token=abc")
    'rtsp://***@door/live?channel=1&token=***'
    """
    uri = valid_unicode(uri)
    scheme, mark, rest = uri.partition("://")
    hidden, at, kept = rest.rpartition("@")
    if re.search(rf"{_SECRET}[^&]*\Z", hidden):  # the '@' is in a secret parameter, whose rest is hidden too
        kept = re.sub(r"\A[^&]*", "***", kept)
    kept = re.sub(rf"({_SECRET})[^&]*", r"\1***", kept)
    return f"{scheme}://{at and '***@'}{kept}" if mark else uri
