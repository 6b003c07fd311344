"""Reads a webcam or a GStreamer pipeline in the reader process, by OpenCV."""

from __future__ import annotations

import ctypes
import os
import re
import time
from typing import Any

from vlj_edge.errors import VljEdgeError, without_pipeline_credentials

from ..source import Image
from .opencv import import_opencv
from .reader_output import ReaderOutput

_BAD_IN_A_ROW = 30  # unreadable frames in a row after which the source counts as ended


def read_opencv(place: str | int, backend: str, settings: dict[str, Any], shown: str, output: ReaderOutput) -> None:
    """Read until the source ends: decode every frame; convert and publish those that are due.

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
    """Return an open VideoCapture, None if there is no camera. Send a warning about settings that it does not
    accept."""
    cv2 = import_opencv()
    capture = cv2.VideoCapture(place, cv2.CAP_V4L2)
    if not capture.isOpened():
        return None
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # the lowest delay, if the driver supports it
    properties = {"width": cv2.CAP_PROP_FRAME_WIDTH, "height": cv2.CAP_PROP_FRAME_HEIGHT, "fps": cv2.CAP_PROP_FPS}
    for name, requested in settings.items():
        if name == "format":
            capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter_fourcc(*requested))
        else:
            capture.set(properties[name], requested)
    refused = []
    for name, requested in settings.items():
        actual = _fourcc(capture.get(cv2.CAP_PROP_FOURCC)) if name == "format" else capture.get(properties[name])
        if actual != requested and (name == "format" or abs(actual - requested) > 0.01 * requested):
            refused.append(f"{name} {_written(actual)} in place of {_written(requested)}")
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
    os.environ["OPENCV_LOG_LEVEL"] = "WARNING"  # the reader process discards stderr, so it is captured in a file here
    stderr_copy = os.memfd_create("GStreamer's messages")
    stderr = os.dup(2)
    os.dup2(stderr_copy, 2)
    try:
        cv2 = import_opencv()
        if not cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER):
            raise VljEdgeError(
                f"{shown} needs an OpenCV with GStreamer, and this one has none: pip uninstall opencv-python-headless,"
                " which hides the system's, and apt install python3-opencv"
            )
        reason = _parse_error(pipeline)
        capture = None if reason else cv2.VideoCapture(pipeline, cv2.CAP_GSTREAMER)
        if capture is not None and capture.isOpened():
            return capture
        reason = reason or _reason(os.pread(stderr_copy, 1 << 20, 0).decode(errors="replace"))
        raise OSError(without_pipeline_credentials(reason or "GStreamer cannot start the pipeline"))
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(stderr_copy)


def _parse_error(pipeline: str) -> str | None:
    """Return the error of GStreamer's parser for a pipeline; None if there is none, or if the library is not found.
    (OpenCV does not report it, and waits for ever in some cases.)"""

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
    """Return the error that an element of the pipeline reported, from OpenCV's log."""
    found = re.search(r"GStreamer warning: .*?module (\S+) reported: (.*)", log)
    return f"{found[1]}: {found[2].strip().rstrip('.')}" if found else None


def _to_bgr(cv2: Any, image: Image) -> Image:
    if image.ndim == 2 or image.shape[2] == 1:
        return cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)  # type: ignore[no-any-return]
    if image.shape[2] == 4:
        return cv2.cvtColor(image, cv2.COLOR_BGRA2BGR)  # type: ignore[no-any-return]
    return image
