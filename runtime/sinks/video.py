"""The video itself, with the standing text drawn into it."""

from __future__ import annotations

import re
import threading
import unicodedata
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from vlj_edge.errors import VljEdgeError

from ..video.opencv import import_opencv
from ..video.source import Frame, Source
from .base import Event

Picture: TypeAlias = npt.NDArray[np.uint8]

MOST_LINES = 3
# The system's, where it has one of them; Pillow's own has nothing beyond ASCII.
FONTS = ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "LiberationSans-Regular.ttf", "FreeSans.ttf", "Arial.ttf")
_LETTERS = str.maketrans(
    {"ß": "ss", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "đ": "d", "Đ": "D"}
    | {
        "\u2013": "-",
        "\u2014": "-",
        "\u2018": "'",
        "\u2019": "'",
        "\u201c": '"',
        "\u201d": '"',
        "\u0131": "i",
        "þ": "th",
    }
)
DARKNESS = 0.35  # what the bar leaves of the picture behind the text


class AnnotatedVideo:
    """Writes segments STEM-0001.mp4, STEM-0002.mp4, ... beside `path`, whose stem and folder count.

    An MP4 can be read only once it is finished. So each segment is written under a hidden name and renamed when it is:
    every file with such a name can be played, and a process that is killed loses at most the segment it was writing.
    Segments of earlier runs are kept; the numbers go on.

    frame(), take() and close() may be called from different threads.

    Args:
        period: seconds between two frames, nominally.
        segment_seconds: length of a segment at most.

    Raises:
        VljEdgeError: the folder is not there.
    """

    def __init__(self, path: Path | str, period: float, segment_seconds: float = 60.0) -> None:
        path = Path(path)
        self._folder, self._stem = path.parent, path.stem
        if not self._folder.is_dir():
            raise VljEdgeError(f"{self._folder} is no folder: make it, or give another path")
        self._period, self._most = period, max(1, int(segment_seconds / period + 1e-6))
        self._number = self._last_number()
        self._lock = threading.Lock()
        self._text = ""
        self._size: tuple[int, int] | None = None  # width and height of the first frame
        self._writer: Any = None
        self._began, self._written = 0.0, 0  # of this segment: time of its first frame, frames
        self._closed = False

    def take(self, event: Event) -> None:
        """See Sink. Frames show this text from now on."""
        self._text = " ".join(event.narration.text.split())

    def frame(self, time: float, image: Picture) -> None:
        """Write a frame; does nothing after close().

        Where frames are missing (a live source that was too fast), the last one is repeated, so that the video keeps
        the source's pace.

        Args:
            time: seconds from the start of the source.
            image: uint8 [height, width, 3], BGR; brought to the size of the first.

        Raises:
            VljEdgeError: the video cannot be written.
        """
        with self._lock:
            if self._closed:
                return
            drawn = self._draw(image)
            index = round((time - self._began) / self._period)  # where it belongs in this segment
            if self._writer is None or self._written >= self._most or index >= self._most:
                self._finish()
                self._begin(time)
                index = 0
            for _ in range(max(1, index + 1 - self._written)):
                if self._written < self._most:
                    self._writer.write(drawn)
                    self._written += 1

    def close(self) -> None:
        """See Sink. Finishes the segment.

        Raises:
            VljEdgeError: it cannot be written.
        """
        with self._lock:
            self._closed = True
            self._finish()

    def _draw(self, image: Picture) -> Picture:
        if self._size is None:
            self._size = (image.shape[1], image.shape[0])
        if (image.shape[1], image.shape[0]) != self._size:
            image = import_opencv().resize(image, self._size, interpolation=import_opencv().INTER_AREA)
        return with_text(image, self._text)

    def _begin(self, time: float) -> None:
        cv2 = import_opencv()
        self._number += 1
        scratch = self._scratch()
        self._writer = cv2.VideoWriter(str(scratch), cv2.VideoWriter_fourcc(*"mp4v"), 1 / self._period, self._size)
        self._began, self._written = time, 0
        if not self._writer.isOpened():
            self._writer, self._number = None, self._number - 1
            raise VljEdgeError(f"no video can be written to {self._folder}: check that it is writable and has room")

    def _finish(self) -> None:
        if self._writer is None:
            return
        cv2 = import_opencv()
        self._writer.release()
        self._writer = None
        scratch = self._scratch()
        check = cv2.VideoCapture(str(scratch))  # OpenCV does not say when the disk was full
        good = check.grab()
        check.release()
        try:
            if not good:
                raise OSError("its end is missing")
            scratch.replace(self._folder / f"{self._stem}-{self._number:04}.mp4")
        except OSError as error:
            scratch.unlink(missing_ok=True)
            raise VljEdgeError(
                f"segment {self._number} of {self._folder / self._stem} cannot be written ({error.strerror or error}): "
                "free space"
            ) from error

    def _scratch(self) -> Path:
        return self._folder / f".{self._stem}-{self._number:04}.mp4"

    def _last_number(self) -> int:
        names = [re.fullmatch(re.escape(self._stem) + r"-(\d{4,})\.mp4", p.name) for p in self._folder.iterdir()]
        return max((int(name[1]) for name in names if name), default=0)


def with_text(image: Picture, text: str) -> Picture:
    """A copy of a picture (uint8 [height, width, 3]) with a text in white on a dark bar at its bottom."""
    drawn = np.array(image)
    if text:
        mask = _mask(text, image.shape[1], image.shape[0])
        bar = drawn[-len(mask) :]
        bar[:] = np.rint(bar * (DARKNESS * (1 - mask)) + 255 * mask)
    return drawn


@lru_cache(maxsize=4)
def _mask(text: str, width: int, height: int) -> npt.NDArray[np.floating[Any]]:
    """The text, 0..1 [bar's height, width, 1]: drawn once, though it stands for many frames."""
    size = max(10, height // 18)
    margin = max(2, size // 3)
    font, whole = _font(size)
    text = text if whole else _plain(text)
    lines = _wrap(text, font, max(1, width - 2 * margin))
    step = round(size * 1.3)
    bar = Image.new("L", (width, min(height, step * len(lines) + 2 * margin)))
    draw = ImageDraw.Draw(bar)
    for row, line in enumerate(lines):
        draw.text((margin, margin + row * step), line, fill=255, font=font)
    return np.asarray(bar, np.float32)[..., None] / 255


@lru_cache(maxsize=4)
def _font(size: int) -> tuple[Any, bool]:
    """A font, and whether it has more than ASCII."""
    for name in FONTS:
        with suppress(OSError, ImportError):
            return ImageFont.truetype(name, size), True
    try:
        return ImageFont.load_default(size), False
    except (TypeError, ImportError):  # Pillow below 10.1, or without FreeType: one size
        return ImageFont.load_default(), False


def _plain(text: str) -> str:
    """ASCII, as near as it gets: Pillow's own font draws a box for every other letter."""
    bare = unicodedata.normalize("NFKD", text.translate(_LETTERS))
    return "".join(c for c in bare if not unicodedata.combining(c)).encode("ascii", "replace").decode()


def _wrap(text: str, font: Any, width: int) -> list[str]:
    """Lines that fit; a word that does not is broken, and what is beyond the last line is cut off with dots."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width:
            lines[-1] = longer
            continue
        if lines[-1]:
            lines.append("")
        for char in word:
            if lines[-1] and font.getlength(lines[-1] + char) > width:
                lines.append("")
            lines[-1] += char
    if len(lines) > MOST_LINES:
        lines = lines[:MOST_LINES]
        while lines[-1] and font.getlength(lines[-1] + "...") > width:
            lines[-1] = lines[-1][:-1]
        lines[-1] = lines[-1].rstrip() + "..."
    return lines


class Filmed(Source):
    """A source all of whose frames go into an annotated video on their way."""

    def __init__(self, source: Source, film: AnnotatedVideo) -> None:
        self._source, self._film = source, film
        self.live, self.period = source.live, source.period

    def frames(self) -> Iterator[Frame]:
        """See Source."""
        for frame in self._source:
            self._film.frame(frame.time, frame.image)
            yield frame
        self.incomplete = self._source.incomplete

    def interrupt(self) -> None:
        """See Source."""
        self._source.interrupt()

    def close(self) -> None:
        """See Source."""
        self._source.close()
