"""OpenCV, imported when it is first needed."""

from __future__ import annotations

import os
from types import ModuleType

from vlj_edge.errors import require


def import_opencv() -> ModuleType:
    """Return cv2, whose own and FFmpeg's logging to stderr is off unless the environment turns it on.

    Raises:
        VljEdgeError: it is not installed.
    """
    os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # AV_LOG_QUIET
    return require("cv2", "cpu")
