"""Reads a webcam or a GStreamer pipeline in the reader process, by OpenCV."""

from __future__ import annotations

import ctypes
import os
import re
import time
from typing import Any

from vlj_edge.errors import VljEdgeError

from ..source import Image
from .gstreamer import without_pipeline_credentials
from .opencv import import_opencv
from .reader_output import ReaderOutput

_BAD_IN_A_ROW = 30  # unreadable frames in a row after which the source counts as ended


def read_opencv(place: str | int, backend: str, settings: dict[str, Any], shown: str, output: ReaderOutput) -> None:
    """Read until the source ends: decode every frame, convert and publish those that are due.

    Args:
        place, backend, settings, shown: see CameraAddress.

    Raises:
        VljEdgeError: it cannot be opened.
    """
    capture = (
        _open_pipeline(str(place), shown) if backend == "GSTREAMER" else _open_webcam(place, settings, shown, output)
    )
    if capture is None:
        return
    cv2 = import_opencv()
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


def _open_webcam(place: str | int, settings: dict[str, Any], shown: str, output: ReaderOutput) -> Any:
    """Return an open VideoCapture, None if there is no camera. What it does not take of the settings is a warning."""
    cv2 = import_opencv()
    capture = cv2.VideoCapture(place, cv2.CAP_V4L2)
    if not capture.isOpened():
        return None
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # the least delay, where the driver supports it
    properties = {"width": cv2.CAP_PROP_FRAME_WIDTH, "height": cv2.CAP_PROP_FRAME_HEIGHT, "fps": cv2.CAP_PROP_FPS}
    for name, wanted in settings.items():
        if name == "format":
            capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter_fourcc(*wanted))
        else:
            capture.set(properties[name], wanted)
    refused = []
    for name, wanted in settings.items():
        given = _fourcc(capture.get(cv2.CAP_PROP_FOURCC)) if name == "format" else capture.get(properties[name])
        if given != wanted and (name == "format" or abs(given - wanted) > 0.01 * wanted):
            refused.append(f"{name} {_written(given)} in place of {_written(wanted)}")
    if refused:
        device = f"/dev/video{place}" if isinstance(place, int) else place
        remedy = f"v4l2-ctl --list-formats-ext -d {device} lists what it has"
        output.send(f"warning {shown} gives {', '.join(refused)}: {remedy}")
    return capture


def _fourcc(code: float) -> str:
    return int(code).to_bytes(4, "little", signed=int(code) < 0).decode("latin-1")


def _written(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def _open_pipeline(pipeline: str, shown: str) -> Any:
    """Return an open VideoCapture of a pipeline.

    Raises:
        VljEdgeError: OpenCV has no GStreamer, or GStreamer refuses the pipeline.
    """
    os.environ["OPENCV_LOG_LEVEL"] = "WARNING"  # in the reader process stderr is thrown away: it goes to a file here
    said = os.memfd_create("GStreamer's messages")
    stderr = os.dup(2)
    os.dup2(said, 2)
    try:
        cv2 = import_opencv()
        if not cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER):
            raise VljEdgeError(
                f"{shown} needs an OpenCV with GStreamer, and this one has none: pip uninstall opencv-python-headless,"
                " which hides the system's, and apt install python3-opencv"
            )
        reason = _ill_formed(pipeline)
        capture = None if reason else cv2.VideoCapture(pipeline, cv2.CAP_GSTREAMER)
        if capture is not None and capture.isOpened():
            return capture
        reason = reason or _reason(os.pread(said, 1 << 20, 0).decode(errors="replace"))
        raise OSError(without_pipeline_credentials(reason or "GStreamer cannot start the pipeline"))
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(said)


def _ill_formed(pipeline: str) -> str | None:
    """Return what GStreamer's parser has against a pipeline; None if nothing, or if the library is not found. (OpenCV
    does not say it, and waits for ever for some.)"""

    class Error(ctypes.Structure):
        _fields_ = [("domain", ctypes.c_uint32), ("code", ctypes.c_int), ("message", ctypes.c_char_p)]

    try:
        gst = ctypes.CDLL("libgstreamer-1.0.so.0")
    except OSError:
        return None
    gst.gst_parse_launch.restype = ctypes.c_void_p
    error = ctypes.POINTER(Error)()
    gst.gst_init(None, None)
    gst.gst_parse_launch(pipeline.encode(), ctypes.byref(error))
    return error.contents.message.decode(errors="replace") if error else None


def _reason(log: str) -> str | None:
    """Return what an element of the pipeline reported, from OpenCV's log."""
    found = re.search(r"GStreamer warning: .*?module (\S+) reported: (.*)", log)
    return f"{found[1]}: {found[2].strip().rstrip('.')}" if found else None


def _to_bgr(cv2: Any, image: Image) -> Image:
    if image.ndim == 2 or image.shape[2] == 1:
        return cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)  # type: ignore[no-any-return]
    if image.shape[2] == 4:
        return cv2.cvtColor(image, cv2.COLOR_BGRA2BGR)  # type: ignore[no-any-return]
    return image
