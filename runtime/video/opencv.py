"""What frames come from: the interface of a source, video files, folders of images. uris.py opens them.

Timestamps are seconds from the first frame. What cannot be opened, or has no picture in it, is an error at once. What
breaks off later ends normally with `incomplete` set, so that everything before the break is still narrated.
"""

from __future__ import annotations

import os
from types import ModuleType

from vlj_edge.errors import require


def import_opencv() -> ModuleType:
    """cv2, without its own and FFmpeg's chatter on stderr unless the environment asks for it."""
    os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # AV_LOG_QUIET
    # OpenCV's own reader of AVI prints whatever it finds in a damaged file, and reads nothing that the others do not.
    os.environ.setdefault("OPENCV_VIDEOIO_PRIORITY_CV_MJPEG", "0")
    return require("cv2", "cpu")
