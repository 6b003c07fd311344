"""Reads a webcam or a GStreamer pipeline in the reader process, by OpenCV."""

from __future__ import annotations

import time
from typing import Any

from .opencv import import_opencv
from .reader_output import ReaderOutput
from .source import Image

_BAD_IN_A_ROW = 30  # unreadable frames in a row after which the source counts as ended


def read_opencv(place: str | int, backend: str, output: ReaderOutput) -> None:
    """Read until the source ends: decode every frame, convert and publish those that are due.

    Args:
        place, backend: see CameraAddress.
    """
    cv2 = import_opencv()
    capture = cv2.VideoCapture(place, getattr(cv2, f"CAP_{backend}"))
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # the least delay, where the backend supports it
    if not capture.isOpened():
        return
    output.send(f"open {capture.get(cv2.CAP_PROP_FPS)}")
    bad = 0
    while bad < _BAD_IN_A_ROW:
        if not capture.grab():
            bad += 1
            time.sleep(0.01)
            continue
        now = time.monotonic()
        if not output.is_due(now):
            bad = 0
            continue
        good, image = capture.retrieve()
        if not good or image is None or image.size == 0:
            bad += 1
            output.count_bad()
            continue
        bad = 0
        if not output.publish(now, _to_bgr(cv2, image)):
            return


def _to_bgr(cv2: Any, image: Image) -> Image:
    if image.ndim == 2 or image.shape[2] == 1:
        return cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)  # type: ignore[no-any-return]
    if image.shape[2] == 4:
        return cv2.cvtColor(image, cv2.COLOR_BGRA2BGR)  # type: ignore[no-any-return]
    return image
