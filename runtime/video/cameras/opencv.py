"""OpenCV, imported when it is first needed."""

from __future__ import annotations

import os
from types import ModuleType

from vlj_edge.errors import require


def import_opencv() -> ModuleType:
    """Return cv2, set up to log nothing to stderr, nor FFmpeg in it, unless the environment says otherwise.

    Raises:
        VljEdgeError: it is not installed.
    """
    os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # AV_LOG_QUIET
    # OpenCV's own AVI reader prints what it finds in a damaged file, and reads nothing that FFmpeg does not.
    os.environ.setdefault("OPENCV_VIDEOIO_PRIORITY_CV_MJPEG", "0")
    return require("cv2", "cpu")
