"""Cameras whose reader process runs a few lines of Python in place of reading a device."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from vlj_edge.runtime.video.cameras.camera import CameraSource
from vlj_edge.runtime.video.cameras.camera_address import CameraAddress

STALE = 0.4  # seconds without a frame after which these cameras' readers are started again

_READER = """
import json, os, sys, time
import numpy as np
from vlj_edge.runtime.video.cameras.shared_frames import SharedFrames
counter, program, memory, news = sys.argv[1], sys.argv[2], SharedFrames(int(sys.argv[3])), int(sys.argv[4])
json.load(sys.stdin)
tries = int(open(counter).read() or 0) if os.path.exists(counter) else 0
open(counter, "w").write(str(tries + 1))
def frames(count, every=0.02):
    for n in range(count):
        memory.write(time.monotonic(), np.full((4, 6, 3), 10 * tries + n, np.uint8))
        os.write(news, b"f\\n")
        time.sleep(every)
os.write(news, b"open 50.0 0\\n")
exec(program)
"""


def fake_camera(folder: Path, program: str, **options: Any) -> CameraSource:
    """A camera whose reader runs `program`, which may call frames(count, every) and look at `tries`.

    Every pixel of a frame is 10 * (readers started in `folder` before) + (index of the frame in its reader).
    """
    reader = [sys.executable, "-c", _READER, str(folder / "tries"), program]
    return CameraSource(CameraAddress("camera X", "x", remedy="look"), reader=reader, **{"stale": STALE} | options)
