"""Identifies the content of an http address (camera, snapshot, playlist or recording) with one GET."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPResponse
from typing import Literal

from .address import NetworkAddress
from .hls import HlsPlaylist
from .http_body import HttpBody
from .http_client import HttpClient, status_error
from .no_video import NoVideoError, known_problem

_JPEG_STREAMS = ("video/x-motion-jpeg", "video/x-mjpeg", "video/mjpeg")
_GZIP = b"\x1f\x8b\x08"
_IMAGES = (b"\xff\xd8\xff", b"\x89PNG\r\n")


@dataclass(frozen=True)
class HttpContent:
    """The content of an http address.

    Attributes:
        kind: "mjpeg", an endless row of JPEGs; "snapshot", one picture a request; "live" or "recording".
        place: for open_container(); the caller closes it.
    """

    kind: Literal["mjpeg", "snapshot", "live", "recording"]
    place: HttpBody | HlsPlaylist


def open_http(address: NetworkAddress) -> HttpContent:
    """Request an address and identify its content.

    Raises:
        OSError: there is no response, or its content is not usable; the text is for users.
    """
    client = HttpClient(address)
    try:
        response = client.get()
        problem = status_error(response)
        if problem is not None:
            raise OSError(problem)
        body = HttpBody(client, response)
    except BaseException:
        client.close()
        raise
    try:
        return _identify(address, response, body)
    except BaseException:
        body.close()
        raise


def _identify(address: NetworkAddress, response: HTTPResponse, body: HttpBody) -> HttpContent:
    kind = response.headers.get_content_type()
    with suppress(UnicodeDecodeError):
        if "mpegurl" in kind or body.head.decode("utf-8-sig", "replace").lstrip().startswith("#EXTM3U"):
            playlist = HlsPlaylist(address, body)
            return HttpContent("live" if playlist.live else "recording", playlist)
    in_parts = kind.startswith("multipart/") or (body.head.lstrip().startswith(b"--") and b"image/jp" in body.head)
    if in_parts or kind in _JPEG_STREAMS:
        return HttpContent("mjpeg", body)
    if kind.startswith("image/") or (body.head.startswith(_IMAGES) and not kind.startswith("video/")):
        return HttpContent("snapshot", body)
    if kind == "text/html" and body.head.lstrip().startswith(b"<"):
        raise NoVideoError("it is a web page, no video")
    problem = known_problem(body.head)
    if problem is not None:
        raise NoVideoError(problem)
    if body.head.startswith(_GZIP):
        raise OSError("it is compressed with gzip: have its server send it as it is")
    return HttpContent("recording", body)
