"""The exception whose message is written for users, and helpers for its messages."""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

_JOINERS = "\u200c\u200d"  # some scripts and emoji need them
_ADDRESS = re.compile(r"([A-Za-z][\w+.-]+):/{1,3}")  # as a path, it has one slash
_SLIP = re.compile(r"\A(?:\w+:)?/{0,2}[^/]*:.*@", re.DOTALL)  # an address whose scheme is missing or misspelled
_SHOWN = r"(?!\*{3}(?: \d+)?(?:[&;]|\Z))"  # not what was replaced already, in a name that has got a number
_LOCAL = ("file", "v4l2", "csi", "pipe")  # whose addresses hold no secret
_QUOTED = r'"(?:\\.|[^"\\])*"|' + r"'(?:\\.|[^'\\])*'"


class VljEdgeError(Exception):
    """A fault that the user can correct. The message is one line: what is wrong, with what, what to do.

    The message is made printable(): quoted paths and other libraries' messages may hold anything.

    >>> str(VljEdgeError("a\\nb.mp4 is missing: check the path"))
    'a b.mp4 is missing: check the path'
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class WrongCall(VljEdgeError):
    """The call is wrong whatever the files hold that it names: an unknown name, a value that is none, or two choices
    that exclude each other, or one that the named model does not have. The command's exit code is 2.
    """


class WrongText(WrongCall):
    """A text that the model does not take: it is too long, empty, or none of its own labels.

    Attributes:
        text: as it was given, so that it can be found in the file that it may come from, see texts_of_file().
    """

    def __init__(self, message: str, text: str) -> None:
        super().__init__(message)
        self.text = text


def printable(text: str) -> str:
    """Return a text that is safe to print on one line of a terminal: line breaks become spaces, control characters and
    those that change the direction of writing "?", and bytes of file names that are not UTF-8 escapes.

    >>> printable("a\\nb\\x07\\udcff.mp4")
    'a b?\\\\xff.mp4'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in _JOINERS else " " if c.isspace() else "?" for c in valid_unicode(text))


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


@contextmanager
def errors_at(place: str) -> Iterator[None]:
    """Name the place of what is wrong, such as an option or a line of a file, before the message of a VljEdgeError.

    What a file says is no part of the call: of a WrongCall there, a VljEdgeError is made.
    """
    try:
        yield
    except VljEdgeError as error:
        in_call = isinstance(error, WrongCall) and place.startswith("--")
        raise (WrongCall if in_call else VljEdgeError)(f"{place}: {error}") from None


def without_credentials(uri: str) -> str:
    """Return an address with everything before an '@' and every value of a query or parameter replaced, for logs, names
    and errors. In paths, only bytes that are not UTF-8 are replaced, see valid_unicode(); in a gst: pipeline, secrets.

    A password may hold an unencoded '@', '/' or '?', so everything up to the last '@' is replaced, even if that '@' is
    part of the path.

    >>> without_credentials("rtsp://me:secret@door/live?channel=1&token=abc")
    'rtsp://***@door/live?channel=***&token=***'
    """
    given, uri = uri, valid_unicode(uri)
    if uri.startswith("gst:"):
        return without_pipeline_credentials(uri)
    found = _ADDRESS.match(uri)
    if found is None:
        return uri if not _SLIP.match(uri) or os.path.exists(given) else _SLIP.sub("***@", uri)
    if found[1].lower() in _LOCAL:
        return uri
    hidden, at, kept = uri[found.end() :].rpartition("@")
    if re.search(r"[?&;][^?&;=]*=[^&]*\Z", hidden):  # the '@' may be in a value, whose rest is hidden too
        kept = re.sub(r"\A[^&]*", "***", kept)
    kept = re.sub(rf"={_SHOWN}[^&;]+", "=***", kept)  # also in a path, where some cameras have user=admin_password=abc
    kept = re.sub(rf"([?&;]){_SHOWN}[^?&;=]+(?=[&;]|\Z)", r"\1***", kept)  # without a name
    kept = re.sub(rf"(?s)#{_SHOWN}.+", "#***", kept)
    return f"{found[0]}{at and '***@'}{kept}"


def without_secrets(text: str) -> str:
    """Return a line in which without_credentials() was applied to every address.

    Each ends with a space, but not before an '@': a password may hold spaces.

    >>> without_secrets("'rtsp://me:secret@door/?a=1' is gone: look")
    "'rtsp://***@door/?a=***' is gone: look"
    """
    address = r"[A-Za-z][\w+.-]+:/(?:.*\S@(?=\S))?[^\s'\"<>|]*?(?=[):,;.]*(?:[\s'\"<>|]|\Z))"
    text = re.sub(address, _hidden, text)
    return without_pipeline_credentials(text) if "gst:" in text else text


def without_pipeline_credentials(text: str) -> str:
    """Return a GStreamer pipeline, or a message about one, with users and passwords replaced.

    >>> without_pipeline_credentials("rtspsrc location=rtsp://me:secret@door/1 user-pw=secret ! decodebin")
    'rtspsrc location=rtsp://***@door/1 user-pw=*** ! decodebin'
    """
    word, address = rf"(?:{_QUOTED}|[^\s\"'])+|\S+", r"(?s)[A-Za-z][\w+.-]+:/.*?(?=[\"']?\Z)"
    text = re.sub(word, lambda found: re.sub(address, _hidden, found[0]), text)
    secret = r"(?i:[\w-]*(?:user|pass|pwd|pw|token|secret|key|auth|header|cookie|session|sig)[\w-]*)"
    return re.sub(rf"(\b{secret}\s*=\s*)(?:\([^)]*\)\s*)?(?:{_QUOTED}|[^\s&\"']+)", r"\1***", text)


def _hidden(address: re.Match[str]) -> str:
    return without_credentials(address[0])
