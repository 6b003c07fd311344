"""Sources on disk: files, images, folders of images and named pipes."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from urllib.parse import unquote_to_bytes

from vlj_edge.errors import VljEdgeError, WrongCall, without_credentials

from .part import Part
from .recordings.files import VideoFile, check_video
from .recordings.image import is_animated_png
from .recordings.image_files import IMAGE_SUFFIXES, ImageFiles, images_in
from .recordings.stdin import PipeOptions, open_pipe, pipe_options
from .source import Source


class SourceMissing(VljEdgeError):
    """There is nothing at a path; there may be later."""


def path_of(uri: str | Path | int) -> Path | None:
    """Return the path that a URI names; None if it names a camera, a stream or a pipe.

    A name that exists is a path, whatever else it could mean: a folder called 2024, or a file called pipe:1. Only `-`
    is always stdin; `./-` is the file. In a file:// URI any byte of a name may be percent-encoded.

    Raises:
        VljEdgeError: it is empty, or a file:// URI of another machine.
    """
    if isinstance(uri, Path):
        return uri
    text = str(uri)
    if not text:
        raise WrongCall("a source's name is empty: give a path, an address or a camera's number")
    if isinstance(uri, int) or text == "-" or _is_device(text):
        return None
    if os.path.exists(text):
        return Path(text)
    if text[:5].lower() == "file:":
        return _path_of_file_uri(text[5:])
    if pipe_options(text) is not None or re.fullmatch(r"[0-9]+", text) or re.match(r"/dev/|gst:|[^/]*://", text):
        return None
    return Path(os.path.expanduser(text))


def check_path(path: Path) -> int:
    """Check what can be known of the source at a path without opening it, and return its mode (os.stat).

    Raises:
        SourceMissing: there is none.
        VljEdgeError: it may not be read, or is an empty file.
    """
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError):
        shown = without_credentials(str(path))  # it may be an address with a slip in it
        if re.search(r"[*?]", path.name) and " " not in path.name:
            raise SourceMissing(f"{shown} does not exist: no file matches this pattern") from None
        raise SourceMissing(
            f"{shown} does not exist: check the path; a camera is given by its index, such as 0"
        ) from None
    except OSError as error:
        raise VljEdgeError(f"{path} cannot be read ({error.strerror}): check the path and its permissions") from None
    mode = found.st_mode
    if not os.access(path, os.R_OK | (os.X_OK if stat.S_ISDIR(mode) else 0)):
        raise VljEdgeError(f"{path} may not be read by this user: chmod +r it")
    if stat.S_ISREG(mode) and found.st_size == 0:
        raise VljEdgeError(f"{path} is empty: record or copy it again")
    return mode


def check_recording(path: Path, part: Part) -> None:
    """Check, before anything slow is opened, that open_path() can open a part of what is at a path. A pipe is left as
    it is.

    Raises:
        VljEdgeError: it cannot.
    """
    mode = check_path(path)
    if stat.S_ISDIR(mode):
        images_in(path)
    elif stat.S_ISREG(mode) and path.suffix.lower() not in IMAGE_SUFFIXES:
        check_video(path, part)


def open_path(path: Path, part: Part, sampled_at: float | None) -> Source:
    """Open the source at a path.

    Raises:
        SourceMissing: there is none.
        VljEdgeError: it cannot be read.
    """
    mode = check_path(path)
    if stat.S_ISFIFO(mode):
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        return open_pipe(PipeOptions(), part, sampled_at, descriptor, str(path), owned=True)
    if stat.S_ISDIR(mode):
        return ImageFiles(images_in(path), part)
    if path.suffix.lower() in IMAGE_SUFFIXES and not is_animated_png(path):
        return ImageFiles([path], part)
    return VideoFile(path, part=part, sampled_at=sampled_at)


def _is_device(text: str) -> bool:
    """Return whether it is a device, such as /dev/video0."""
    try:
        mode = os.stat(text).st_mode
    except (OSError, ValueError):
        return False
    return text.startswith("/dev/") and stat.S_ISCHR(mode)


def _path_of_file_uri(rest: str) -> Path:
    """Return the path in a file:// URI (RFC 8089), of which `rest` comes after file:."""
    if rest.startswith("//"):
        host, slash, below = rest[2:].partition("/")
        if host not in ("", "localhost"):
            raise WrongCall(
                f"file:{rest} names a file of the machine '{host}': a path here has three slashes, file:///PATH"
            )
        rest = slash + below
    path = _unquoted(rest)
    if not os.path.exists(path):  # a ? or # that is not percent-encoded ends the path, unless such a file exists
        path = _unquoted(re.split("[?#]", rest, maxsplit=1)[0])
    return path


def _unquoted(text: str) -> Path:
    return Path(os.fsdecode(unquote_to_bytes(os.fsencode(text))))
