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
    return require("cv2", "cpu")
