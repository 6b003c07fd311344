"""The last seconds of each camera in memory, and the clips that are cut from them: from before to after an alert."""

from __future__ import annotations

import io
import logging
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import PIL.Image

from vlj_edge.errors import VljEdgeError

from ..video.recordings.film import film
from ..video.recordings.image import encode_jpeg

_LOG = logging.getLogger(__name__)
PERIOD = 0.2  # seconds between two pictures
MOST_BYTES = 32_000_000  # of one source's pictures; the oldest go first
_WIDTH, _QUALITY = 640, 80
_GRACE = 0.8  # seconds for clips that are not finished at the end
_Image = npt.NDArray[np.uint8]
OnClip = Callable[[bytes], None]


class PictureRing:
    """The latest pictures of one source as JPEGs, with the time.monotonic() of each."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._pictures: deque[tuple[float, bytes]] = deque()
        self._bytes = 0
        self._latest: _Image | None = None

    def add(self, at: float, image: _Image) -> None:
        """Take a picture, uint8 [height, width, 3] BGR, unless it is the same object as the one before."""
        if image is self._latest:
            return
        jpeg, self._latest = encode_jpeg(image, _WIDTH, _QUALITY), image
        self._pictures.append((at, jpeg))
        self._bytes += len(jpeg)
        while self._pictures and (self._pictures[0][0] < at - self.seconds or self._bytes > MOST_BYTES):
            self._bytes -= len(self._pictures.popleft()[1])

    def between(self, begin: float, end: float) -> list[tuple[float, bytes]]:
        """Return the pictures of a time, the oldest first."""
        return [each for each in list(self._pictures) if begin <= each[0] <= end]


@dataclass
class _Cut:
    source: str
    begin: float
    end: float
    on_clip: OnClip


class ClipKeeper:
    """Keeps the last seconds of sources, and cuts clips from them. Callable from any thread.

    It takes five pictures a second of each source in a thread of its own, and each clip is encoded in another, so that
    it holds no stream up. A context manager.

    Args:
        latest: returns the newest frame of a source, uint8 [height, width, 3] BGR, or None.
    """

    def __init__(self, latest: Callable[[str], _Image | None]) -> None:
        self._latest = latest
        self._rings: dict[str, PictureRing] = {}
        self._cuts: list[_Cut] = []
        self._encoding: list[threading.Thread] = []
        self._lock, self._one_at_a_time = threading.Lock(), threading.Lock()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def keep(self, seconds: Mapping[str, float]) -> None:
        """Keep so many seconds of these sources from now on, and nothing of others.

        Raises:
            VljEdgeError: the system has no thread left.
        """
        with self._lock:
            kept = {name: self._rings.get(name) or PictureRing(0) for name in seconds}
            for name, ring in kept.items():
                ring.seconds = seconds[name]
            self._rings = kept
            if kept and self._thread is None and not self._closed.is_set():
                thread = threading.Thread(target=self._work, name="keep pictures", daemon=True)
                _start(thread)
                self._thread = thread

    def cut(self, source: str, begin: float, end: float, on_clip: OnClip) -> None:
        """Make an MP4 of a time, by time.monotonic(), once it is over, and pass it on, if there is a picture."""
        with self._lock:
            if source in self._rings and not self._closed.is_set():
                self._cuts.append(_Cut(source, begin, end, on_clip))

    def pictures(self, source: str, begin: float, end: float) -> list[_Image]:
        """Return what is kept of a time, uint8 [height, width, 3] BGR, in order."""
        ring = self._rings.get(source)
        return [] if ring is None else [_decoded(jpeg) for _, jpeg in ring.between(begin, end)]

    def close(self) -> None:
        """Stop. Clips that are not over yet are made of what there is, if that takes less than a second."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join()
        until = time.monotonic() + _GRACE
        self._finish(np.inf)
        for thread in self._encoding:
            thread.join(max(until - time.monotonic(), 0.0))

    def __enter__(self) -> ClipKeeper:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _work(self) -> None:
        while not self._closed.wait(PERIOD):
            for name, ring in list(self._rings.items()):
                try:
                    image = self._latest(name)
                    if image is not None:
                        ring.add(time.monotonic(), image)
                except VljEdgeError:  # a damaged picture
                    continue
                except Exception as error:  # the other sources go on
                    _LOG.debug("no picture of %s is kept: %r", name, error)
            self._finish(time.monotonic())

    def _finish(self, now: float) -> None:
        """Encode the clips that are over."""
        with self._lock:
            over = [cut for cut in self._cuts if cut.end <= now]
            self._cuts = [cut for cut in self._cuts if cut.end > now]
            self._encoding = [thread for thread in self._encoding if thread.is_alive()]
            for cut in over:
                pictures = self._rings[cut.source].between(cut.begin, cut.end) if cut.source in self._rings else []
                thread = threading.Thread(target=self._encode, args=(cut, pictures), name="clip", daemon=True)
                try:
                    _start(thread)
                    self._encoding.append(thread)
                except VljEdgeError as error:
                    _LOG.warning("an alert of %s has no clip (%s)", cut.source, error)

    def _encode(self, cut: _Cut, pictures: Sequence[tuple[float, bytes]]) -> None:
        if not pictures:
            return
        try:
            with self._one_at_a_time:
                clip = make_clip(pictures)
        except (VljEdgeError, OSError) as error:
            _LOG.warning("an alert of %s has no clip (%s)", cut.source, error)
            return
        cut.on_clip(clip)


def make_clip(pictures: Sequence[tuple[float, bytes]]) -> bytes:
    """Return an MP4 of JPEGs with their times in seconds, at least one.

    Raises:
        VljEdgeError, OSError: it cannot be made; the folder for temporary files may be full.
    """
    first = pictures[0][0]
    with tempfile.TemporaryDirectory(prefix="vlj-edge-", ignore_cleanup_errors=True) as folder:
        path = Path(folder, "clip.mp4")
        with film(path, PERIOD) as writer:
            for at, jpeg in pictures:
                writer.write(at - first, _decoded(jpeg))
        return path.read_bytes()


def _decoded(jpeg: bytes) -> _Image:
    with PIL.Image.open(io.BytesIO(jpeg)) as picture:
        return np.ascontiguousarray(np.asarray(picture.convert("RGB"))[..., ::-1])


def _start(thread: threading.Thread) -> None:
    try:
        thread.start()
    except RuntimeError as error:
        raise VljEdgeError(f"the system has no thread left ({error}): free memory") from None
