"""Cameras that give one picture a request, polled."""

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
    """Ask for a picture every `every` seconds at most, until the camera fails.

    The connection is kept, and a picture that has not changed need not be sent again.

    Raises:
        OSError: the camera does not answer, or not with pictures.
    """
    client = HttpClient(address)
    known: dict[str, str] = {}  # headers by which the camera tells whether the picture has changed
    image: Image | None = None
    bad = 0
    output.send(f"open {1 / every}")
    while True:
        asked_at = time.monotonic()
        response = client.get(known if image is not None else None)
        try:
            raw = response.read(_MOST_BYTES)
        except BROKEN:
            raw = b""
        if response.status != 304:
            wrong = status_error(response)
            if wrong is not None:
                raise OSError(wrong)
            tag = response.headers["ETag"]  # Last-Modified has whole seconds, in which there are several pictures
            known = {"If-None-Match": tag} if tag else {}
            try:
                image, bad = decode_picture(raw), 0
            except (OSError, SyntaxError, ValueError):  # raised by Pillow for damaged data
                image, bad = None, bad + 1
                output.count_bad()
        if bad >= _BAD_IN_A_ROW:
            raise OSError("its pictures are damaged")
        if image is not None and not output.publish(asked_at, image):
            return
        time.sleep(max(0.0, asked_at + every - time.monotonic()))


def decode_picture(raw: bytes) -> Image:
    """Return uint8 [height, width, 3], BGR.

    Raises:
        OSError, SyntaxError, ValueError: it is damaged.
    """
    with PIL.Image.open(io.BytesIO(raw)) as picture:
        return np.ascontiguousarray(np.asarray(picture.convert("RGB"))[..., ::-1])
