"""From what a user types for a source (a path, a URL, a camera's index) to the source."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from vlj_edge.errors import VljEdgeError, without_credentials

from .camera import CameraAddress, CameraSource, CameraState
from .files import Part, VideoFile
from .http_source import ask
from .image_files import IMAGE_SUFFIXES, ImageFiles, natural_sort_key
from .local_cameras import local_camera
from .network import HTTP_SCHEMES, STREAM_PROTOCOLS, network_address
from .source import Source
from .stdin import StdinSource

_NETWORK = "check its address, user and password, and that the network reaches it"


def open_source(
    uri: str | Path | int,
    *,
    start: float = 0.0,
    end: float | None = None,
    frames_per_second: float | None = None,
    sampled_at: float | None = None,
    rotate: int = 0,
    keep_trying: bool = False,
    on_state: Callable[[CameraState], None] = lambda state: None,
) -> Source:
    """Open the source that a URI names.

    | URI | source |
    |---|---|
    | a path, file:// | a video file, an image, or a folder of images |
    | 0, /dev/video0, v4l2:///dev/video0?size=1280x720&fps=30&format=MJPG | a camera |
    | csi://0?size=1920x1080&fps=30&flip=2 | a camera on a Jetson's CSI connector, through GStreamer |
    | gst:PIPELINE | what a GStreamer pipeline gives |
    | rtsp://, rtsps:// | a network camera |
    | rtmp://, srt://, udp://, rtp:// | a live stream |
    | http://, https:// | MJPEG, snapshots, HLS, or a recording: what is there decides |
    | - | JPEGs, one after the other, on stdin; -?size=640x480&rate=25&format=bgr24 for raw frames |

    Args:
        start, end: seconds; the part of a recording that is read.
        frames_per_second: the rate of the pictures in place of their own times; of a folder's images, 4 if None.
        sampled_at: samples a second that the caller takes, from the first frame on. Frames that none of them shows may
            then be left out. None: every frame comes.
        rotate: degrees clockwise by which every image is turned: 0, 90, 180 or 270.
        keep_trying, on_state: see CameraSource; they apply to live sources only.

    Raises:
        VljEdgeError: there is nothing, it cannot be read, or it has no frame.
    """
    if rotate not in (0, 90, 180, 270):
        raise VljEdgeError(f"images are turned by 0, 90, 180 or 270 degrees, not by {rotate}")
    source = _open(uri, Part(start, end, frames_per_second), sampled_at, keep_trying, on_state)
    source.rotate = rotate
    return source


def _open(
    uri: str | Path | int,
    part: Part,
    sampled_at: float | None,
    keep_trying: bool,
    on_state: Callable[[CameraState], None],
) -> Source:
    text = str(uri)
    if text == "-" or text.startswith("-?"):
        return _stdin(text)
    address = camera_address(text)
    if address is None:
        path = unquote(urlsplit(text).path) if text.startswith("file://") else text
        return _open_path(Path(path).expanduser(), part, sampled_at)
    recording = _http_recording(address, keep_trying) if address.reader == "http" else None
    if recording is not None:
        try:
            again = partial(_http_recording, address, keep_trying)
            return VideoFile(recording, address.shown, part, sampled_at, again=again)
        except BaseException:
            recording.close()
            raise
    every = 1 / (4 * (sampled_at or 4.0))
    return CameraSource(address, every, keep_trying=keep_trying, on_state=on_state)


def camera_address(text: str) -> CameraAddress | None:
    """Return the live source that a URI names; None for a path.

    Raises:
        VljEdgeError: an unknown kind of source, or an ill-formed URI.
    """
    local = local_camera(text)
    if local is not None:
        return local
    scheme, mark, _ = text.partition("://")
    shown = without_credentials(text)
    if not mark or scheme == "file":
        return None
    if scheme in (*HTTP_SCHEMES, *STREAM_PROTOCOLS):
        place = network_address(text).with_credentials()
        return CameraAddress(shown, place, "http" if scheme in HTTP_SCHEMES else "ffmpeg", remedy=_NETWORK)
    raise VljEdgeError(
        f"{shown}: {scheme} sources are not known: give a file, a folder of images, a camera's index, csi://, gst:,"
        " rtsp://, rtmp://, srt://, udp://, rtp:// or http://"
    )


def _http_recording(address: CameraAddress, keep_trying: bool) -> Any:
    """Return the recording behind an http address, for VideoFile; None if it is a camera.

    Raises:
        VljEdgeError: it cannot be had, and is not to be waited for: what is not there yet may be a camera.
    """
    try:
        answer = ask(network_address(str(address.place)))
    except OSError as error:
        if keep_trying:
            return None
        raise VljEdgeError(f"{address.shown} cannot be read ({error}): {address.remedy}") from None
    if answer.kind == "recording":
        return answer.place
    answer.place.close()
    return None


def _stdin(text: str) -> Source:
    options = parse_qs(text[2:], strict_parsing=True) if len(text) > 2 else {}
    error = VljEdgeError(f"'{text}' is no source: write - for JPEGs, -?size=640x480&rate=25&format=bgr24 for raw ones")
    if not options.keys() <= {"size", "rate", "format"}:
        raise error
    size = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", options["size"][0]) if "size" in options else None
    rate = options.get("rate", [""])[0]
    if ("size" in options and size is None) or (rate and not re.fullmatch(r"\d+(\.\d+)?", rate)):
        raise error
    return StdinSource(
        0,
        (int(size[1]), int(size[2])) if size else None,
        float(rate) if rate else None,
        options.get("format", ["bgr24"])[0],
    )


def _open_path(path: Path, part: Part, sampled_at: float | None) -> Source:
    if not path.exists():
        raise VljEdgeError(f"{path} does not exist: check the path; a camera is given by its index, such as 0")
    if not os.access(path, os.R_OK):
        raise VljEdgeError(f"{path} may not be read by this user: chmod +r it")
    if path.is_dir():
        images = [p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")]
        if not images:
            raise VljEdgeError(f"{path} holds no images ({', '.join(IMAGE_SUFFIXES)}): give a folder that does")
        return ImageFiles(sorted(images, key=natural_sort_key), part.frames_per_second or 4.0)
    if path.stat().st_size == 0:
        raise VljEdgeError(f"{path} is empty: record or copy it again")
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return ImageFiles([path], part.frames_per_second or 4.0)
    return VideoFile(path, part=part, sampled_at=sampled_at)
