"""PyAV, FFmpeg's Python binding, imported when it is first needed; and containers opened by it."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path
from types import ModuleType
from typing import Any

from vlj_edge.errors import VljEdgeError, require

from ..interruptible import Interruptible

# What a local file may refer to. FFmpeg opens what a playlist or a session description names: never the network.
LOCAL_PROTOCOLS = "file,crypto,data,pipe"
MOST_PIXELS = 8192 * 4352  # of a picture, which is 8K; FFmpeg checks it at each one, before it allocates memory


class UnreadableError(VljEdgeError):
    """A container that cannot be read.

    Attributes:
        reason: why, in words.
        protocol_missing: this FFmpeg does not know the protocol of its URL.
    """

    def __init__(self, shown: str, error: Exception) -> None:
        self.protocol_missing = isinstance(error, import_av().error.ProtocolNotFoundError)
        scheme = shown.partition("://")[0].lower() if "://" in shown else "file"
        self.reason = _reason(scheme, error)
        remedy = _convert(shown) if scheme == "file" else "open it in a browser, to see what is sent"
        super().__init__(f"{shown} cannot be read as a video ({self.reason}): look at it with ffprobe, or {remedy}")


def _reason(scheme: str, error: Exception) -> str:
    """Return why FFmpeg opens no container: of what an address sends, nobody knows whether it is a file."""
    errors = import_av().error
    no_video, at_once = isinstance(error, errors.InvalidDataError), isinstance(error, errors.EOFError)
    if no_video and scheme == "file":
        return "it is damaged, cut off before its index was written, or no video"
    if (no_video or at_once) and scheme in ("http", "https"):
        return "what its server sends is no video, or a damaged one"
    if scheme != "file" and (at_once or isinstance(error, (ConnectionResetError, BrokenPipeError))):
        return "it closes the connection without an answer"
    if (no_video or getattr(error, "errno", None) == errno.EIO) and scheme != "file":
        return f"what answers there speaks no {scheme.upper()}, or sends no video"
    return getattr(error, "strerror", None) or str(error)


def import_av() -> ModuleType:
    """Return av, which logs nothing.

    Raises:
        VljEdgeError: it is not installed.
    """
    av = require("av", "cpu")
    av.logging.set_level(None)
    return av


def open_container(place: Path | str | Any, shown: str, options: dict[str, str] | None = None, **arguments: Any) -> Any:
    """Open a container that holds pictures for reading.

    Args:
        place: a file's path; a URL, whose options name the protocols that it may use; or an object with read() and
            optionally seek(). Only one that has io_open(), format and options, see HlsPlaylist, may refer to others.
        shown: its name in errors, without credentials.
        options: FFmpeg's options for the format and its protocol.
        arguments: of av.open().

    Raises:
        VljEdgeError: there is none, it cannot be read, or this FFmpeg has no decoder for its pictures.
    """
    av = import_av()
    if not isinstance(place, Path | str | Interruptible):
        place = Interruptible(place)
    local = LOCAL_PROTOCOLS if isinstance(place, Path) else "none"
    options = {"protocol_whitelist": local, "max_pixels": str(MOST_PIXELS)} | (options or {})
    playlist: Any = place
    if hasattr(playlist, "io_open"):
        options |= playlist.options
        arguments |= {"format": playlist.format, "io_open": playlist.io_open}
    if isinstance(place, Path):
        # "file:" so that no part of the name is taken for a protocol; surrogates so that any bytes are a name.
        place = "file:" + os.fspath(place.absolute())
    try:
        container = av.open(place, options=options, **_metadata_replaced(av), **arguments)
    except (av.error.FFmpegError, OSError, UnicodeError, ValueError) as error:
        if isinstance(place, Interruptible):
            place.check()
        raise UnreadableError(shown, error) from None  # the error holds the address, with its credentials
    try:
        if isinstance(place, Interruptible):
            place.check()
        codec = picture_stream(container, shown).codec_context
        if codec.width * codec.height > int(options["max_pixels"]):
            raise VljEdgeError(
                f"{shown} has pictures of {codec.width}x{codec.height}, which is too large: make them smaller with"
                f" ffmpeg -i {Path(shown).name} -vf scale=1920:-2 small.mp4"
            )
    except BaseException:
        container.close()
        raise
    return container


def _metadata_replaced(av: ModuleType) -> dict[str, str]:
    """Return the argument of av.open() for metadata that is no UTF-8. PyAV 19 has none: it takes any bytes."""
    return {"metadata_errors": "replace"} if int(av.__version__.partition(".")[0]) < 19 else {}


def picture_stream(container: Any, shown: str) -> Any:
    """Return the stream of pictures that a player shows.

    Raises:
        VljEdgeError: there is none, or this FFmpeg has no decoder for it.
    """
    av = import_av()
    streams = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
    if not streams:
        raise VljEdgeError(f"{shown} holds no pictures, only {_kinds(container)}: give a video")
    best = container.streams.best("video")
    stream = best if best in streams else streams[0]
    if stream.codec_context is None:
        codec = _codec_name(container, stream)
        raise VljEdgeError(f"{shown} is in the codec {codec}, which this FFmpeg cannot decode: {_convert(shown)}")
    return stream


def _convert(shown: str) -> str:
    return f"convert it with ffmpeg -i {Path(shown).name} video.mp4"


def _kinds(container: Any) -> str:
    kinds = sorted({"a cover" if s.type == "video" else s.type for s in container.streams})
    return " and ".join(kinds) or "no stream at all"


def _codec_name(container: Any, stream: Any) -> str:
    """Return the name of a codec without decoder, and its four letters in the file, from FFmpeg's description."""
    logging = import_av().logging
    logging.set_level(logging.INFO)
    description = container.dumps_format()
    logging.set_level(None)
    found = re.search(rf"Stream #0:{stream.index}\b.*?: Video: (\w+)( \([^)]*\))*", description)
    return found[0].partition("Video: ")[2] if found else "unknown"
