"""The newest frame of a channel as a JPEG, encoded once for all viewers."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator
from typing import Any
from weakref import proxy

from vlj_edge.errors import VljEdgeError

from ...video.recordings.image import encode_jpeg
from ..channel import Channel

BOUNDARY = "frame"
_MAX_WIDTH = 640  # pixels
_INTERVAL = 0.2  # seconds between two frames of a video stream
_QUALITY = 75


class LatestJpeg:
    """Encodes the newest frame of one channel."""

    def __init__(self, channel: Channel) -> None:
        self._channel = proxy(channel)  # a strong reference would keep its own key in ServerState.jpegs alive
        self._lock = threading.Lock()
        self._image: Any = None  # the frame the JPEG was made of; referenced, so that no other frame gets its id()
        self._latest: tuple[int, bytes] | None = None
        self._not_before = 0.0

    def get(self) -> tuple[int, bytes] | None:
        """Return the number and JPEG of the newest frame, or None before the first. Each new frame has a new number."""
        with self._lock:
            if time.monotonic() < self._not_before:
                return self._latest
            try:
                image = self._channel.latest_image()
                if image is None or image is self._image:
                    return self._latest
                self._latest = ((self._latest[0] if self._latest else 0) + 1, encode_jpeg(image, _MAX_WIDTH, _QUALITY))
            except VljEdgeError:  # a damaged frame: the previous one stays
                return self._latest
            self._image, self._not_before = image, time.monotonic() + _INTERVAL / 2
            return self._latest

    async def stream(self, closing: threading.Event) -> AsyncGenerator[bytes, None]:
        """Yield parts of multipart/x-mixed-replace until the source or the server ends."""
        last = 0
        while True:
            # Checked before the frame is read, so that the last one is shown.
            over = closing.is_set() or self._channel.state == "ended"
            latest = await asyncio.to_thread(self.get)
            if latest is not None and latest[0] != last:
                last, jpeg = latest
                head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                yield head.encode() + jpeg + b"\r\n"
            if over:
                yield f"--{BOUNDARY}--\r\n".encode()
                return
            await asyncio.sleep(_INTERVAL)
