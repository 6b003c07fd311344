"""The process that reads one live source: python -m vlj_edge.runtime.video.camera_process MEMORY NEWS < ADDRESS

A read that blocks for good can then be ended, which no thread allows. Frames go into shared memory (slots.Slots),
and a byte into a pipe for each. The address comes by stdin: an argument can be read by every user of the machine.
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

_BAD_IN_A_ROW = 30  # frames that cannot be read, after which the source is taken to have ended


def main() -> None:
    """Read until the source ends, or whoever started this does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all of a terminal: the parent ends this one
    slots, news = SharedFrames(int(sys.argv[1])), int(sys.argv[2])
    address = json.load(sys.stdin)
    threading.Thread(target=_end_with, args=(address["parent"],), daemon=True).start()
    os.environ.update(address["environment"])
    capture = _open(address)
    if not capture.isOpened():
        return _say(news, "closed")
    cv2 = import_opencv()
    _say(news, f"open {capture.get(cv2.CAP_PROP_FPS)} {capture.get(cv2.CAP_PROP_FRAME_COUNT)}")
    os.set_blocking(news, False)  # a parent that is late misses bytes, not frames: the slots hold the newest
    _read(capture, slots, news, address["every"])
    os.set_blocking(news, True)
    _say(news, "end")


def _open(address: dict[str, Any]) -> Any:
    cv2 = import_opencv()
    backend = getattr(cv2, f"CAP_{address['backend']}")
    capture = cv2.VideoCapture(address["place"], backend)
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # the least delay, where the backend knows of it
    return capture


def _read(capture: Any, slots: SharedFrames, news: int, every: float) -> None:
    """Every frame is decoded, as the next one needs it; it becomes a picture only as often as somebody may look."""
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
            slots.count_bad()
            continue
        due, bad = max(due + every, now), 0
        slots.put(now, _fitting(image))
        try:
            os.write(news, b"f\n")
        except BlockingIOError:
            continue
        except BrokenPipeError:
            return


def _fitting(image: Image) -> Image:
    """BGR, and no larger than a slot."""
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


def _end_with(parent: int) -> None:
    """When the process that started this one is gone. (Linux's own signal for that, PR_SET_PDEATHSIG, comes when the
    thread is gone that did, and a source outlives the threads that read it.)"""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _say(news: int, line: str) -> None:
    os.write(news, f"{line}\n".encode())


if __name__ == "__main__":
    main()
