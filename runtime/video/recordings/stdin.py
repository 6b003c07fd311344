"""Videos and frames that another program writes to a pipe."""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

from vlj_edge.errors import VljEdgeError, WrongCall

from ..decoding.pyav import UnreadableError, import_av
from ..part import Part
from ..source import Frame
from .files import ASSUMED_RATE, VideoFile, warn_of_rate
from .pipe import Content, Pipe, content_of, spool_file

_OPTIONS = ("size", "rate", "format", "live")
_AT_ONCE = {"fpsprobesize": "0", "probesize": "32"}  # FFmpeg starts with the first picture, not after some seconds
_EXAMPLES = (
    "write ffmpeg -i VIDEO -f mpegts - | vlj-edge narrate -, or for raw frames vlj-edge narrate"
    " pipe:size=640x480,rate=25,format=bgr24"
)


@dataclass(frozen=True)
class PipeOptions:
    """Options of a pipe, for content that does not describe itself.

    Attributes:
        size: width and height of raw frames, pixels; None: the frames are not raw.
        rate: frames a second, in place of the frames' own times.
        format: FFmpeg's name of raw frames' pixel format, such as bgr24.
        live: the frames arrive in real time; those that arrive too fast are skipped. Without a rate, their times are
            those of arrival.
    """

    size: tuple[int, int] | None = None
    rate: float | None = None
    format: str = "bgr24"
    live: bool = False


def pipe_options(uri: str) -> PipeOptions | None:
    """Return the options in `-`, `pipe:size=640x480,rate=25` or `-?size=640x480&rate=25`; None if it names no pipe.

    Raises:
        VljEdgeError: an option is wrong.
    """
    found = re.fullmatch(r"(?:-|pipe:0?|/dev/stdin)(\?.*)?|pipe:(.+)", uri, re.DOTALL)
    if found is None:
        return None
    option_text = (found[1] or "?")[1:] or found[2] or ""
    values: dict[str, str] = {}
    for option in re.split("[,&]", option_text) if option_text else ():
        name, mark, value = option.partition("=")
        if name not in _OPTIONS or not mark or name in values:
            raise _option_error(uri, f"'{option}' is none of {'=, '.join(_OPTIONS)}=")
        values[name] = value
    if "format" in values and "size" not in values:
        raise _option_error(uri, "a format is one of raw frames, which need a size")
    if values.get("live", "0") not in ("0", "1"):
        raise _option_error(uri, f"live is 1 or 0, not '{values['live']}'")
    size = _size(uri, values["size"]) if "size" in values else None
    rate = _rate(uri, values["rate"]) if "rate" in values else None
    return PipeOptions(size, rate, _pixel_format(uri, values.get("format", "bgr24")), values.get("live") == "1")


def _size(uri: str, text: str) -> tuple[int, int]:
    found = re.fullmatch(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})", text)
    if found is None:
        raise _option_error(uri, f"'{text}' is no size")
    return int(found[1]), int(found[2])


def _rate(uri: str, text: str) -> float:
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?|[0-9]{1,9}/[1-9][0-9]{0,8}", text) is not None:
        rate = float(Fraction(text))
        if 1e-3 <= rate <= 1000:
            return rate
    raise _option_error(uri, f"'{text}' is no rate, frames a second")


def _pixel_format(uri: str, name: str) -> str:
    if name == "bgr24":
        return name
    av = import_av()
    try:
        av.VideoFrame(16, 16, name).reformat(format="bgr24")
    except (ValueError, av.error.FFmpegError, MemoryError):
        raise _option_error(
            uri, f"'{name}' is no pixel format that can be read, as ffmpeg -pix_fmts lists them"
        ) from None
    return name


def _option_error(uri: str, why: str) -> VljEdgeError:
    return WrongCall(f"{uri}: {why}: write pipe:size=640x480,rate=25,format=bgr24 for raw frames, - for others")


def open_pipe(
    options: PipeOptions,
    part: Part,
    sampled_at: float | None = None,
    descriptor: int = 0,
    shown: str = "stdin",
    owned: bool = False,
) -> PipeSource:
    """Open a file descriptor: any container that FFmpeg reads sequentially, JPEGs one after another, or raw frames.

    An MP4 whose index comes last is written to a temporary file first, which is deleted when the source is closed.

    Args:
        options: of the pipe.
        part: the part that is read.
        sampled_at: see Decoder; used where it adds no delay.
        descriptor: open for reading.
        shown: its name in messages.
        owned: the source closes the descriptor.

    Raises:
        VljEdgeError: there is no picture, or it is a terminal.
    """
    pipe = Pipe(descriptor)
    with ExitStack() as cleanup:
        if owned:
            cleanup.callback(os.close, descriptor)
        try:
            place, content = _place(pipe, descriptor, shown, options, cleanup)
            if content == "nothing":
                raise VljEdgeError(f"{shown} gives nothing: {_EXAMPLES}")
            part = replace(part, frames_per_second=options.rate or part.frames_per_second)
            timeless = options.size is not None or content == "jpegs"
            if timeless and part.frames_per_second is None and not options.live:
                part = replace(part, frames_per_second=ASSUMED_RATE)
                warn_of_rate(shown, ASSUMED_RATE)
            sampled_at = sampled_at if isinstance(place, Path) else None  # since that reads 20 packets ahead
            source = PipeSource(place, shown, part, sampled_at, *_format(options, content), options.live)
        except UnreadableError as error:
            raise VljEdgeError(f"{shown} cannot be read as a video ({error.reason}): {_EXAMPLES}") from None
        source.rereadable = source.rereadable and content != "late index" and not owned
        source.release = cleanup.pop_all().close
    return source


class PipeSource(VideoFile):
    """A video from a file descriptor. It is a recording unless `live` is set.

    Args:
        live: without a rate in `part`, the frames' times are those of their arrival.

    Attributes:
        release: called by close().
    """

    def __init__(
        self,
        place: Any,
        shown: str,
        part: Part,
        sampled_at: float | None,
        options: dict[str, str],
        form: str | None,
        live: bool,
    ) -> None:
        self.live = live
        self.release: Callable[[], None] = lambda: None
        super().__init__(place, shown, part, sampled_at, options, form=form)

    def frames(self) -> Iterator[Frame]:
        """See Source."""
        if not self.live or self.part.frames_per_second is not None:
            yield from super().frames()
            return
        origin: float | None = None
        for frame in super().frames():
            now = time.monotonic()
            origin = now if origin is None else origin
            yield Frame(now - origin, partial(getattr, frame, "image"))

    def close(self) -> None:
        """See Source."""
        super().close()
        self.release()


def _place(
    pipe: Pipe, descriptor: int, shown: str, options: PipeOptions, cleanup: ExitStack
) -> tuple[Path | Pipe, Content]:
    """Return the path or pipe that FFmpeg reads, and its kind of content."""
    if _is_file(descriptor, shown):
        content = content_of(os.pread(descriptor, 1 << 16, 0))
        return Path(f"/proc/self/fd/{descriptor}"), "other" if content == "late index" else content
    content = pipe.content(raw=options.size is not None)
    if content != "late index":
        return pipe, content
    try:
        spool = cleanup.enter_context(spool_file())
        pipe.spool(spool)
    except OSError as error:
        raise VljEdgeError(
            f"{shown} is an MP4 whose index comes last, and cannot be kept until then ({error.strerror}): free space,"
            " name another folder in TMPDIR, or make it with ffmpeg -movflags +faststart"
        ) from None
    return Path(f"/proc/self/fd/{spool.fileno()}"), content


def _is_file(descriptor: int, shown: str) -> bool:
    """Return whether it is a regular file at its beginning, which has a path and can be read at random.

    Raises:
        VljEdgeError: it cannot be read.
    """
    try:
        mode = os.fstat(descriptor).st_mode
    except OSError:
        raise VljEdgeError(f"{shown} is closed: {_EXAMPLES}") from None
    if os.isatty(descriptor):
        raise VljEdgeError(f"{shown} is a terminal: {_EXAMPLES}")
    if stat.S_ISDIR(mode):
        raise VljEdgeError(f"{shown} is a folder: {_EXAMPLES}")
    at_start = stat.S_ISREG(mode) and os.lseek(descriptor, 0, os.SEEK_CUR) == 0
    return at_start and Path(f"/proc/self/fd/{descriptor}").exists()


def _format(options: PipeOptions, content: Content) -> tuple[dict[str, str], str | None]:
    """Return FFmpeg's options, and the name of a format that must not be guessed."""
    if options.size is not None:
        width, height = options.size
        return {"video_size": f"{width}x{height}", "pixel_format": options.format} | _AT_ONCE, "rawvideo"
    if content == "jpegs":
        return _AT_ONCE, "mjpeg"
    return ({"fpsprobesize": "0"} if options.live else {}), None
