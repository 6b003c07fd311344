"""Opens the source that a user names by a path, a URL or a camera's index."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from vlj_edge.errors import VljEdgeError, WrongCall, without_credentials
from vlj_edge.variables import with_variables

from .cameras.camera import CameraSource, CameraState
from .cameras.camera_address import CameraAddress
from .cameras.local_cameras import local_camera
from .decoding.picture_decoder import DecoderChoice
from .network.address import HTTP_SCHEMES, STREAM_PROTOCOLS, network_address, with_plain_scheme
from .network.http_source import open_http
from .network.no_video import NoVideoError
from .part import ImageTimes, LiveUntil, Part, check_rate
from .paths import open_path, path_of
from .recordings.files import VideoFile
from .recordings.stdin import open_pipe, pipe_options
from .source import Source

_NETWORK = "check its address, user and password, and that the network reaches it"


def open_source(
    uri: str | Path | int,
    *,
    start: float = 0.0,
    end: float | None = None,
    frames_per_second: float | None = None,
    image_times: ImageTimes = "rate",
    sampled_at: float | None = None,
    rotate: int = 0,
    decoder: DecoderChoice = "auto",
    keep_trying: bool = False,
    on_state: Callable[[CameraState], None] = lambda state: None,
) -> Source:
    """Open the source that a URI names.

    | URI | source |
    |---|---|
    | a path, file:// | a video file, an image, or a folder of images |
    | 0, /dev/video0, v4l2:///dev/video0?size=1280x720&fps=30&format=MJPG | a camera |
    | csi://0?size=1920x1080&fps=30&flip=2 | a camera on a Jetson's CSI connector, through GStreamer |
    | gst:PIPELINE | the pictures of a GStreamer pipeline |
    | rtsp://, rtsps:// | a network camera |
    | rtmp://, srt://, udp://, rtp:// | a live stream |
    | http://, https:// | MJPEG, snapshots, HLS, or a recording, which is detected |
    | - | a video on stdin, or JPEGs one after the other; pipe:size=640x480,rate=25,format=bgr24 for raw frames,
      pipe:live=1 if it is live |

    In an address, ${NAME} stands for the environment's NAME, see with_variables().

    Args:
        start, end: seconds; the part of a recording that is read. A live source begins at 0 and ends at `end`.
        frames_per_second: the rate of the pictures in place of their own times; of a folder's images, 4 if None.
        image_times: where the times of a folder's images come from: "rate", their modification times ("file"), or what
            the camera wrote into them ("exif").
        sampled_at: samples a second that the caller takes, from the first frame on. Frames that no sample shows may
            then be left out. None: all frames are yielded.
        rotate: degrees clockwise by which every image is turned: 0, 90, 180 or 270.
        decoder: of files and network streams: "hardware", "software", or "auto", hardware if it works.
        keep_trying, on_state: see CameraSource; they apply to live sources only.

    Raises:
        VljEdgeError: there is no such source, it cannot be read, or it has no frame.
    """
    shown = without_credentials(str(uri))
    part = Part(start, end, frames_per_second, image_times, decoder)
    if not isinstance(uri, str | Path) and (not isinstance(uri, int) or isinstance(uri, bool) or uri < 0):
        raise WrongCall(f"{uri!r} names no source: give a path, an address, or the number of a camera")
    part.check()
    check_rate(sampled_at, "sampled_at")
    if rotate not in (0, 90, 180, 270):
        raise WrongCall(f"images are turned by 0, 90, 180 or 270 degrees, not by {rotate}")
    source = _open(uri, part, sampled_at, keep_trying, on_state)
    if source.live and start > 0:
        source.close()
        raise WrongCall(f"{shown} is live and has no later start: leave the start out")
    if source.live and end is not None:
        source = LiveUntil(source, end)
    source.rotate, source.shown = rotate, shown
    return source


def check_source(uri: str, part: Part, loop: bool = False) -> None:
    """Check what can be known of a source without opening it.

    Args:
        loop: it is to be repeated, if it is a recording.

    Raises:
        VljEdgeError: open_source() refuses this URI, or this part of it, whatever is there.
    """
    part.check()
    text, path = _named(uri, part)
    if path is not None:
        return
    pipe = pipe_options(text)
    if pipe is not None:
        if loop and not pipe.live:
            raise WrongCall(f"{uri} can be read only once, as a pipe can: leave loop out")
        return
    address = camera_address(text)
    if address.reader != "http":  # where a recording may be
        _check_live(address.shown, part)


def _named(uri: str | Path | int, part: Part) -> tuple[str, Path | None]:
    """Return what a URI names, with its variables replaced: its text, and its path if it is one."""
    if isinstance(uri, str) and not os.path.exists(uri):
        uri = with_variables(uri)
    text, path = str(uri), path_of(uri)
    if part.image_times != "rate" and (path is None or (path.exists() and not path.is_dir())):
        raise WrongCall(f"{without_credentials(text)} is no folder of images: leave the image times out")
    return text, path


def _check_live(shown: str, part: Part) -> None:
    if part.start > 0:
        raise WrongCall(f"{shown} is live and has no later start: leave the start out")
    if part.frames_per_second is not None:
        raise WrongCall(f"{shown} is live, and its frames have the times at which they come: leave the rate out")


def _open(
    uri: str | Path | int,
    part: Part,
    sampled_at: float | None,
    keep_trying: bool,
    on_state: Callable[[CameraState], None],
) -> Source:
    text, path = _named(uri, part)
    if path is not None:
        return open_path(path, part, sampled_at)
    pipe = pipe_options(text)
    if pipe is not None:
        return open_pipe(pipe, part, sampled_at)
    address = camera_address(text)
    recording = _http_recording(address, keep_trying) if address.reader == "http" else None
    if recording is not None:
        try:
            again = partial(_http_recording, address, keep_trying)
            return VideoFile(recording, address.shown, part, sampled_at, again=again)
        except BaseException:
            recording.close()
            raise
    _check_live(address.shown, part)
    every = 1 / (4 * (sampled_at or 4.0))
    address = replace(address, decoder=part.decoder)
    return CameraSource(address, every, keep_trying=keep_trying, on_state=on_state)


def camera_address(text: str) -> CameraAddress:
    """Return the live source that a URI names.

    Raises:
        VljEdgeError: an unknown kind of source, or an ill-formed URI.
    """
    text = with_plain_scheme(text)
    local = local_camera(text)
    if local is not None:
        return local
    scheme, _, _ = text.partition("://")
    shown = without_credentials(text)
    if scheme in (*HTTP_SCHEMES, *STREAM_PROTOCOLS):
        place = network_address(text).with_credentials()
        return CameraAddress(shown, place, "http" if scheme in HTTP_SCHEMES else "ffmpeg", remedy=_NETWORK)
    raise WrongCall(
        f"{shown}: {scheme} sources are not known: give a file, a folder of images, a camera's index, csi://, gst:,"
        " rtsp://, rtmp://, srt://, udp://, rtp:// or http://"
    )


def _http_recording(address: CameraAddress, keep_trying: bool) -> Any:
    """Return the recording behind an http address, for VideoFile; None if it is a camera.

    Raises:
        VljEdgeError: it cannot be opened and `keep_trying` is not set (an address that does not answer yet may be a
            camera).
    """
    try:
        content = open_http(network_address(str(address.place)))
    except OSError as error:
        if keep_trying:
            return None
        remedy = "open it in a browser, to see what is sent" if isinstance(error, NoVideoError) else address.remedy
        raise VljEdgeError(f"{address.shown} cannot be read ({error}): {remedy}") from None
    if content.kind == "recording":
        return content.place
    content.place.close()
    return None
