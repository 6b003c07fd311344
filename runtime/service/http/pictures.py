"""The newest frame of a channel as a JPEG, made once however many look at it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator
from typing import Any
from weakref import proxy

from vlj_edge.errors import VljEdgeError

from ...video.opencv import import_opencv
from ..channel import Channel

BOUNDARY = "frame"
_WIDEST = 640  # pixels
_EVERY = 0.2  # seconds between two pictures
_QUALITY = 75


class Picture:
    """Of one channel."""

    def __init__(self, channel: Channel) -> None:
        self._channel, self._lock = proxy(channel), threading.Lock()  # or it would keep its own key in the desk alive
        self._image: Any = None  # of which the JPEG was made: kept, so that no other can be taken for it
        self._made: tuple[int, bytes] | None = None
        self._next = 0.0

    def jpeg(self) -> tuple[int, bytes] | None:
        """Number and JPEG of the newest frame; None: there was none yet. The number grows with every other frame."""
        with self._lock:
            if time.monotonic() < self._next:
                return self._made
            try:
                image = self._channel.picture()
                if image is None or image is self._image:
                    return self._made
                self._made = ((self._made[0] if self._made else 0) + 1, _jpeg(image))
            except VljEdgeError:  # a damaged frame: the one before stands
                return self._made
            self._image, self._next = image, time.monotonic() + _EVERY / 2
            return self._made

    async def moving(self, closing: threading.Event) -> AsyncGenerator[bytes, None]:
        """Parts of multipart/x-mixed-replace, until the source or the server ends."""
        last = 0
        while True:
            over = closing.is_set() or self._channel.state == "ended"  # asked first, so that the last picture is shown
            made = await asyncio.to_thread(self.jpeg)
            if made is not None and made[0] != last:
                last, jpeg = made
                head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                yield head.encode() + jpeg + b"\r\n"
            if over:
                yield f"--{BOUNDARY}--\r\n".encode()
                return
            await asyncio.sleep(_EVERY)


def _jpeg(image: Any) -> bytes:
    cv2 = import_opencv()
    height, width = image.shape[:2]
    if width > _WIDEST:
        size = (_WIDEST, max(1, round(height * _WIDEST / width)))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    good, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    if not good:
        raise VljEdgeError("the picture cannot be written as JPEG: look at the source with another program")
    return bytes(data)
