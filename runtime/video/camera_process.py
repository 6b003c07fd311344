"""The process that reads one live source: python -m vlj_edge.runtime.video.camera_process MEMORY NEWS < REQUEST

MEMORY and NEWS are file descriptors: frames are written into that shared memory (shared_frames.py), and a line into
that pipe after each. The request is JSON on stdin, because arguments can be read by every user of the machine.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from typing import Any

from .opencv import import_opencv
from .shared_frames import MOST_PIXELS, SharedFrames
from .source import Image

_BAD_IN_A_ROW = 30  # unreadable frames in a row after which the source counts as ended


def main() -> None:
    """Read until the source or the parent process ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal reaches this process too: the parent ends it
    frames, news = SharedFrames(int(sys.argv[1])), int(sys.argv[2])
    request = json.load(sys.stdin)
    threading.Thread(target=_exit_with_parent, args=(request["parent"],), daemon=True).start()
    os.environ.update(request["environment"])
    capture = _open(request)
    if not capture.isOpened():
        return _send(news, "closed")
    cv2 = import_opencv()
    _send(news, f"open {capture.get(cv2.CAP_PROP_FPS)} {capture.get(cv2.CAP_PROP_FRAME_COUNT)}")
    os.set_blocking(news, False)  # a parent that does not read the pipe still finds the newest frame in the memory
    _read(capture, frames, news, request["every"])
    os.set_blocking(news, True)
    _send(news, "end")


def _open(request: dict[str, Any]) -> Any:
    cv2 = import_opencv()
    backend = getattr(cv2, f"CAP_{request['backend']}")
    capture = cv2.VideoCapture(request["place"], backend)
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # the least delay, where the backend supports it
    return capture


def _read(capture: Any, frames: SharedFrames, news: int, every: float) -> None:
    """Decode every frame, since the next one depends on it; convert and publish one every `every` seconds."""
    due, bad = 0.0, 0
    while bad < _BAD_IN_A_ROW:
        if not capture.grab():
            bad += 1
            time.sleep(0.01)
            continue
        now = time.monotonic()
        if now < due:
            bad = 0
            continue
        good, image = capture.retrieve()
        if not good or image is None or image.size == 0:
            bad += 1
            frames.count_bad()
            continue
        due, bad = max(due + every, now), 0
        frames.write(now, _to_bgr(image))
        try:
            os.write(news, b"f\n")
        except BlockingIOError:
            continue
        except BrokenPipeError:
            return


def _to_bgr(image: Image) -> Image:
    """Convert to BGR, and scale down to at most MOST_PIXELS."""
    cv2 = import_opencv()
    if image.ndim == 2 or image.shape[2] == 1:
        image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
    elif image.shape[2] == 4:
        image = cv2.cvtColor(image, cv2.COLOR_BGRA2BGR)
    pixels = image.shape[0] * image.shape[1]
    if pixels > MOST_PIXELS:
        scale = (MOST_PIXELS / pixels) ** 0.5
        size = (max(1, int(image.shape[1] * scale)), max(1, int(image.shape[0] * scale)))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return image


def _exit_with_parent(parent: int) -> None:
    """Exit when the parent process is gone.

    (Linux's signal for that, PR_SET_PDEATHSIG, comes when the thread that started this process ends; a source may
    outlive that thread.)
    """
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _send(news: int, line: str) -> None:
    os.write(news, f"{line}\n".encode())


if __name__ == "__main__":
    main()
