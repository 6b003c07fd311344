"""HLS: a playlist and its segments, all fetched by HTTP."""

from __future__ import annotations

import io
import re
import threading
from typing import Any
from urllib.parse import urljoin, urlsplit

from .address import HTTP_SCHEMES, NetworkAddress
from .http_body import HttpBody
from .http_client import HttpClient, status_error
from .no_video import NoVideoError, known_problem

# io_open, below, opens everything; FFmpeg itself opens nothing, and cannot reuse connections that it did not make.
OPTIONS = {
    "protocol_whitelist": "http,https,tls,tcp",
    "http_persistent": "0",
    "http_multiple": "0",
    "extension_picky": "0",
    "allowed_extensions": "ALL",
    "allowed_segment_extensions": "ALL",
}


_LONGEST = 8 << 20  # bytes of a playlist
_MOST_PIXELS = 1920 * 1080  # of the chosen variant, if there is one as small


class HlsPlaylist:
    """A file for av.open(), with its argument io_open for the playlists and segments that it names.

    If the playlist lists variants, the best one of at most 1920 x 1080 pixels is read.

    Args:
        address: of the playlist. Its credentials are sent to its own host only.
        body: the playlist, which is read and closed here.

    Attributes:
        name: the playlist's URL, without credentials.
        live: whether it has no end yet.

    Raises:
        OSError: a variant cannot be fetched, or it is no playlist, or names nothing.
    """

    format = "hls"
    options = OPTIONS

    def __init__(self, address: NetworkAddress, body: HttpBody) -> None:
        self._address = address
        self._open: set[HttpClient] = set()
        self._changing, self._closed = threading.Lock(), False
        text, self.name = _text(body), body.name
        variant = _best_variant(text)
        if variant is not None:
            part = self.io_open(urljoin(self.name, variant), 0, {})
            text, self.name = _text(part), part.name
        _check(text)
        self._text = io.BytesIO(text)
        self.live = b"#EXT-X-ENDLIST" not in text and b"#EXT-X-PLAYLIST-TYPE:VOD" not in text

    def read(self, count: int) -> bytes:
        """Return some of the next bytes of the playlist."""
        return self._text.read(count)

    def io_open(self, url: str, flags: int, options: dict[str, str]) -> Any:
        """Open a URL of the playlist.

        Raises:
            OSError: it is not on the network, or cannot be fetched.
        """
        url = url.decode() if isinstance(url, bytes) else url
        if url.startswith(("crypto+", "crypto:")):
            raise OSError("its segments are encrypted, which is not supported")
        if urlsplit(url).scheme not in HTTP_SCHEMES:
            raise OSError("its playlist names what is not on the network")
        client = HttpClient(self._address)
        with self._changing:
            if self._closed:
                raise OSError("it is closed")
            self._open.add(client)
        try:
            response = client.get(_range(options), url)
            problem = status_error(response)
            if response.status == 200 and options.get("offset", "0") != "0":
                problem = "its server gives no parts of files, which its playlist needs"
            if problem is not None:
                raise OSError(problem)
            return _Part(self, client, response)
        except BaseException:
            self.forget(client)
            raise

    def forget(self, client: HttpClient) -> None:
        """Close a connection that is no longer needed."""
        client.close()
        with self._changing:
            self._open.discard(client)

    def close(self) -> None:
        """Cut all connections, which ends a read in progress. Callable from any thread, repeatedly."""
        with self._changing:
            self._closed = True
            opened = list(self._open)
        for each in opened:
            each.close()


class _Part:
    """A playlist or segment. One that breaks off is not resumed, since FFmpeg continues with the next."""

    def __init__(self, playlist: HlsPlaylist, client: HttpClient, response: Any) -> None:
        self._playlist, self._client, self._response = playlist, client, response
        self.name = client.url

    def read(self, count: int) -> bytes:
        """Return some of the next bytes."""
        try:
            return bytes(self._response.read1(count))
        except Exception as error:
            raise OSError("the connection broke off") from error

    def close(self) -> None:
        """Close the connection."""
        self._response.close()
        self._playlist.forget(self._client)


def _range(options: dict[str, str]) -> dict[str, str]:
    """Return the header for a part of a file, as #EXT-X-BYTERANGE gives it."""
    offset, end = options.get("offset"), options.get("end_offset")
    if not offset and not end:
        return {}
    return {"Range": f"bytes={offset or 0}-{int(end) - 1 if end else ''}"}


def _text(body: Any) -> bytes:
    text = bytearray()
    while len(text) < _LONGEST and (data := body.read(1 << 16)):
        text += data
    body.close()
    return bytes(text)


def _check(text: bytes) -> None:
    """Raises OSError: a text is no playlist, or one that ends without a segment."""
    if not text.decode("utf-8-sig", "replace").lstrip().startswith("#EXTM3U"):
        raise NoVideoError(known_problem(text) or "it is no playlist")
    if b"#EXT-X-ENDLIST" in text and not re.search(rb"(?m)^\s*[^#\s]", text.removeprefix(b"\xef\xbb\xbf")):
        raise NoVideoError("its playlist names no video")


def _best_variant(text: bytes) -> str | None:
    """Return the address of the variant to read; None if the playlist names segments."""
    found: list[tuple[bool, int, str]] = []
    for attributes, address in re.findall(
        r"#EXT-X-STREAM-INF:(.*)\s+(?:#.*\s+)*([^#\s].*)", text.decode(errors="replace")
    ):
        width, height = map(int, (re.findall(r"RESOLUTION=(\d+)x(\d+)", attributes) or [(0, 0)])[0])
        bandwidth = int((re.findall(r"(?:^|,)BANDWIDTH=(\d+)", attributes) or [0])[0])
        fits = width * height <= _MOST_PIXELS
        found.append((fits, bandwidth if fits else -bandwidth, address.strip()))
    return max(found)[2] if found else None
