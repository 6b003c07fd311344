"""Writing video that every player and browser plays: H.264 in 4:2:0 and AAC, in an MP4 whose index comes first."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageOps

from vlj_edge.atomic_write import atomic_write, check_writable
from vlj_edge.errors import VljEdgeError

from ..decoding.pyav import import_av
from ..source import Image
from .sound import Sound

_TIME_BASE = Fraction(
    1, 90_000
)  # seconds; usual for video, and a whole number of them is a picture of 24 to 60 a second
_LEAST_SIDE = 16  # pixels
_KEY_EVERY = 4.0  # seconds between two pictures to which a player can go directly
_SOUND_AHEAD = 0.5  # seconds of sound written before the picture of that time
_HD = 720  # lines, from which players take colours as of BT.709 rather than BT.601


@contextmanager
def film(path: Path, period: float, sound: Sound | None = None) -> Iterator[FilmWriter]:
    """Yield a writer of a video that is at `path` once the block has ended without an error, and not at all otherwise.

    Args:
        period: nominal seconds between two pictures; the last one lasts so long.
        sound: written beside the pictures.

    Raises:
        VljEdgeError: it cannot be written.
    """
    try:
        with atomic_write(path) as stream:
            writer = FilmWriter(Path(stream.name), path, period, sound)
            try:
                yield writer
                writer.finish()
            except BaseException:
                writer.discard()
                raise
    except OSError as error:
        raise VljEdgeError(_unwritable(path, error)) from error


class FilmWriter:
    """Encodes pictures with their times, and the sound beside them. Made by film(). One thread at a time.

    Attributes:
        count: number of pictures written.
    """

    def __init__(self, file: Path, shown: Path, period: float, sound: Sound | None) -> None:
        self._file, self._shown, self._period, self._sound = file, shown, period, sound
        self._container: Any = None
        self._pictures: Any = None  # the stream
        self._track: Any = None  # the stream of the sound
        self._sound_frames: Iterator[Any] = iter(()) if sound is None else sound.frames()
        self._size = (0, 0)
        self._latest = -1
        self.count = 0

    def write(self, time: float, image: Image) -> None:
        """Write a picture.

        Args:
            time: seconds from the beginning, later than that of the picture before; otherwise the least that is.
            image: uint8 [height, width, 3], BGR. Where it has not the size of the first, it is fitted into that.

        Raises:
            VljEdgeError: it cannot be written.
        """
        av = import_av()
        if self._container is None:
            self._open(image)
        frame = av.VideoFrame.from_ndarray(_fitted(image, self._size), format="bgr24")
        frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709" if self._size[1] >= _HD else "ITU601")
        self._latest = max(round(time / _TIME_BASE), self._latest + 1)
        frame.pts, frame.time_base = self._latest, _TIME_BASE
        frame.duration = round(self._period / _TIME_BASE)
        with self._errors():
            self._container.mux(self._pictures.encode(frame))
            self._write_sound(time + _SOUND_AHEAD)
        self.count += 1

    def finish(self) -> None:
        """Write what the encoders hold, the rest of the sound, and the index; check that it can be played.

        Raises:
            VljEdgeError: it cannot be written.
        """
        if self._container is None:
            raise VljEdgeError(f"{self._shown} has no picture to write: check the source")
        with self._errors():
            self._write_sound(None)
            self._container.mux(self._pictures.encode(None))
            if self._track is not None:
                self._container.mux(self._track.encode(None))
            self._container.close()
            with import_av().open(_url(self._file)) as written:
                if written.streams.video[0].frames != self.count:
                    raise OSError("it has not all of its pictures")

    def discard(self) -> None:
        """Give up, without writing the index."""
        self._file.unlink(missing_ok=True)  # first, so that the index need not be moved to its place
        if self._container is not None:
            with suppress(import_av().error.FFmpegError, OSError):
                self._container.close()

    def _open(self, first: Image) -> None:
        height, width = first.shape[:2]
        self._size = (_even(width), _even(height))
        hd = self._size[1] >= _HD
        with self._errors():
            options = {"movflags": "+faststart"}
            self._container = import_av().open(_url(self._file), "w", format="mp4", options=options)
            rate = Fraction(1 / self._period).limit_denominator(1001)
            self._pictures = self._container.add_stream(
                "libx264", rate=max(rate, Fraction(1, 1001)), options={"preset": "veryfast", "crf": "20"}
            )
            codec = self._pictures.codec_context
            codec.width, codec.height = self._size
            codec.pix_fmt, codec.time_base = "yuv420p", _TIME_BASE
            codec.gop_size = min(250, max(1, round(_KEY_EVERY / self._period)))
            codec.colorspace = 1 if hd else 6  # BT.709, SMPTE 170M
            if self._sound is not None:
                self._track = self._container.add_stream("aac", rate=self._sound.rate, layout=self._sound.layout)
                self._track.codec_context.bit_rate = 128_000

    def _write_sound(self, until: float | None) -> None:
        """Write the sound up to a time, seconds; all if None."""
        if self._track is None:
            return
        for frame in self._sound_frames:
            self._container.mux(self._track.encode(frame))
            if until is not None and frame.time > until:
                return

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (import_av().error.FFmpegError, OSError) as error:
            raise VljEdgeError(_unwritable(self._shown, error)) from error


def check_film(path: Path) -> None:
    """Raises VljEdgeError: no film can be put at a path, as its folder is missing or may not be written to."""
    try:
        check_writable(path)
    except OSError as error:
        raise VljEdgeError(_unwritable(path, error)) from error


def _unwritable(path: Path, error: Exception) -> str:
    reason = getattr(error, "strerror", None) or str(error)
    return f"{path} cannot be written ({reason}): check the folder, or free space"


def _url(file: Path) -> str:
    return f"file:{file.absolute()}"  # so that no part of the name is taken for a protocol


def _even(side: int) -> int:
    return max(_LEAST_SIDE, side + side % 2)


def _fitted(image: Image, size: tuple[int, int]) -> Image:
    """Return an image of that width and height: with its last row and column again if those are missing, or scaled."""
    height, width = image.shape[:2]
    if (width, height) == size:
        return image
    if 0 <= size[0] - width <= 1 and 0 <= size[1] - height <= 1:
        return np.pad(image, ((0, size[1] - height), (0, size[0] - width), (0, 0)), mode="edge")
    return np.asarray(PIL.ImageOps.pad(PIL.Image.fromarray(image), size, PIL.Image.Resampling.BICUBIC))
