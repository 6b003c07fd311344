"""Image files in order, as the frames of a video."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median

from vlj_edge.errors import VljEdgeError

from ..part import Part
from ..source import Frame, Image, Source
from .image import image_time, read_image

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
_RATE = 4.0  # images a second, if their times are not used
_LOG = logging.getLogger("vlj_edge")


def images_in(folder: Path) -> list[Path]:
    """Return the images of a folder in natural order, frame9 before frame10, without hidden ones.

    Raises:
        VljEdgeError: there are none.
    """
    names = sorted((path for path in folder.iterdir() if not path.name.startswith(".")), key=_natural_order)
    images = [path for path in names if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()]
    if not images:
        raise VljEdgeError(
            f"{folder} holds no images ({', '.join(IMAGE_SUFFIXES)}): give a folder that does, or videos, such as"
            f" {folder}/*.mp4"
        )
    return images


def _natural_order(path: Path) -> tuple[list[tuple[int, str]], str]:
    parts = re.split(r"([0-9]+)", path.name)
    return [(int(part), "") if index % 2 else (0, part) for index, part in enumerate(parts)], path.name


class ImageFiles(Source):
    """Image files as the frames of a video. Unreadable ones are skipped, logged and counted.

    Args:
        paths: in order.
        part: the part that is read, and the origin of their times.

    Attributes:
        bad: number of files that could not be read so far.
        part: the part that is read.

    Raises:
        VljEdgeError: none can be read, or a file has no time.
    """

    rereadable = True

    def __init__(self, paths: Sequence[Path], part: Part | None = None) -> None:
        self.part = part = part or Part()
        self._stop, self._last_fault = threading.Event(), ""
        self.bad, self._count = 0, len(paths)
        times = _times(paths, part)
        gaps = [after - before for before, after in pairwise(sorted(times)) if after > before]
        self.period = median(gaps) if gaps else 1 / (part.frames_per_second or _RATE)
        in_order = sorted(zip(times, paths, strict=True), key=lambda taken: taken[0])
        end = part.end if part.end is not None else float("inf")
        self._images = self._read((time, path) for time, path in in_order if part.start <= time + 1e-6 < end)
        self.duration = part.length_of(max(times) + self.period)
        self._first = next(self._images, None)
        if self._first is None:
            raise VljEdgeError(self._nothing(paths, part, max(times)))

    def frames(self) -> Iterator[Frame]:
        """See Source."""
        if self._first is not None and not self._stop.is_set():
            yield Frame(*self._first)
        self._first = None
        for time, image in self._images:
            yield Frame(time, image)
        if self.bad and not self._stop.is_set():
            self.incomplete = (
                f"{self.bad} of {self._count} images could not be read and were left out, the last of them"
                f" {self._last_fault}"
            )

    def interrupt(self) -> None:
        """See Source."""
        self._stop.set()

    def close(self) -> None:
        """See Source."""
        self._stop.set()

    def _read(self, files: Iterator[tuple[float, Path]]) -> Iterator[tuple[float, Image]]:
        for time, path in files:
            if self._stop.is_set():
                return
            try:
                image = read_image(path)
            except VljEdgeError as error:
                self.bad += 1
                self._last_fault = str(error)
                if self._count > 1:
                    _LOG.warning("%s", error)
            else:
                yield time, image

    def _nothing(self, paths: Sequence[Path], part: Part, last: float) -> str:
        if not self.bad:
            return f"{paths[0].parent} has its last image at {last:g} s: none is between the times asked for"
        return self._last_fault if self._count == 1 else f"none of the {self._count} images: {self._last_fault}"


def _times(paths: Sequence[Path], part: Part) -> list[float]:
    """Return the times of the files, seconds from the earliest."""
    if part.image_times == "rate" or len(paths) == 1:
        rate = part.frames_per_second or _RATE
        return [number / rate for number in range(len(paths))]
    taken = [image_time(path, part.image_times) for path in paths]
    known = [time for time in taken if time is not None]
    if len(known) > 1 and len(set(known)) == 1:
        raise VljEdgeError(
            f"{paths[0].parent} holds images of one {part.image_times} time only: copy them with cp -p, or give their"
            " rate"
        )
    # An unreadable one is read again with the others, and logged then.
    return [time - min(known) if time is not None else 0.0 for time in taken]
