"""Polls cameras that give one picture for each request."""

from __future__ import annotations

import io
import time

import numpy as np
import PIL.Image

from ..cameras.reader_output import ReaderOutput
from ..source import Image
from .address import NetworkAddress
from .http_client import BROKEN, HttpClient, status_error

_MOST_BYTES = 64_000_000
_BAD_IN_A_ROW = 10


def read_snapshots(address: NetworkAddress, output: ReaderOutput, every: float) -> None:
    """Request a picture, at most once every `every` seconds, until the camera fails.

    The connection is kept, and a picture that has not changed need not be sent again.

    Raises:
        OSError: the camera does not answer, or sends no picture.
    """
    client = HttpClient(address)
    headers: dict[str, str] = {}  # request headers that ask for the picture only if it has changed
    image: Image | None = None
    bad = 0
    output.send(f"open {1 / every}")
    while True:
        requested_at = time.monotonic()
        response = client.get(headers if image is not None else None)
        try:
            raw = response.read(_MOST_BYTES)
        except BROKEN:
            raw = b""
        if response.status != 304:
            problem = status_error(response)
            if problem is not None:
                raise OSError(problem)
            tag = response.headers["ETag"]  # Last-Modified has whole seconds only
            headers = {"If-None-Match": tag} if tag else {}
            try:
                image, bad = decode_picture(raw), 0
            except (OSError, SyntaxError, ValueError):  # raised by Pillow for damaged data
                image, bad = None, bad + 1
                output.count_bad()
        if bad >= _BAD_IN_A_ROW:
            raise OSError("its pictures are damaged")
        if image is not None and not output.publish(requested_at, image):
            return
        time.sleep(max(0.0, requested_at + every - time.monotonic()))


def decode_picture(raw: bytes) -> Image:
    """Return uint8 [height, width, 3], BGR.

    Raises:
        OSError, SyntaxError, ValueError: it is damaged.
    """
    with PIL.Image.open(io.BytesIO(raw)) as picture:
        return np.ascontiguousarray(np.asarray(picture.convert("RGB"))[..., ::-1])
