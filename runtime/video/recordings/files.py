"""Recordings: video files, and other finite sources that FFmpeg reads."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from vlj_edge.errors import VljEdgeError

from ..decoding.decoder import Decoder
from ..decoding.picture import PictureConverter
from ..decoding.picture_decoder import log_decoder
from ..decoding.pyav import MOST_PIXELS, open_container
from ..interruptible import Interruptible
from ..part import Part
from ..source import Frame, Source
from .mp4_samples import check_samples
from .sound import Sound, open_sound

ASSUMED_RATE = 25.0  # frames a second, as FFmpeg assumes of raw formats
_LOG = logging.getLogger("vlj_edge")


def warn_of_rate(shown: str, rate: float) -> None:
    """Warn that a recording states no rate and an assumed one is used."""
    _LOG.warning("%s does not say how fast its frames are: %g a second are assumed, --fps sets another", shown, rate)


def check_video(path: Path, part: Part) -> None:
    """Check that a file is a video and that a part of it begins before its end, without decoding a picture.

    Raises:
        VljEdgeError: it is not.
    """
    check_samples(path, str(path))
    with closing(open_container(path, str(path))) as container:
        seconds = None if container.duration is None else container.duration / 1e6
    if part.frames_per_second is None and seconds is not None and part.start >= seconds:
        VideoFile(path, part=part).close()  # raises, unless more is in it than it states


class VideoFile(Source):
    """A recording that FFmpeg reads. No picture is dropped for lateness.

    A picture is converted to BGR when its `Frame.image` is first asked for, since most are never sampled.

    Args:
        place: a file's path, or an object with read() and optionally seek(), which close() closes.
        shown: its name in messages; the path if None.
        part: the part that is read. sampled_at: see Decoder.
        options: FFmpeg's, see open_container().
        again: opens an object like `place` again; None: it can be read only once.
        form: FFmpeg's name of the format of a file without times or sound, such as mjpeg; None: it is detected.
        most_pixels: of a picture; larger ones are not decoded.

    Attributes:
        part: the part that is read.
        bad: number of packets that could not be decoded.

    Raises:
        VljEdgeError: it has no picture that can be read.
    """

    def __init__(
        self,
        place: Path | Any,
        shown: str | None = None,
        part: Part | None = None,
        sampled_at: float | None = None,
        options: dict[str, str] | None = None,
        again: Callable[[], Any] | None = None,
        form: str | None = None,
        most_pixels: int = MOST_PIXELS,
    ) -> None:
        self._shown, self.part = shown or str(place), part or Part()
        self._place = place if isinstance(place, Path) else Interruptible(place)
        self._options, self._form = options, form
        if again is None and isinstance(place, Path) and place.is_file():
            again = partial(Path, place)
        self._again, self.rereadable = again, again is not None
        self._stop, self._closed, self._at_end = threading.Event(), False, False
        # Held during every call into the container: closing it during another thread's read would abort the process.
        self._reading = threading.Lock()
        self._decoder: Any = None
        arguments = {"format": form} if form is not None else {}
        if isinstance(self._place, Path):
            check_samples(self._place, self._shown)
        limited = {"max_pixels": str(most_pixels)} | (options or {})
        self._container = open_container(self._place, self._shown, limited, **arguments)
        try:
            self._decoder = Decoder(
                self._container, self._shown, sampled_at, self.part.frames_per_second, self.part.decoder, most_pixels
            )
            self.period = self._decoder.period
            if self._decoder.rate_is_assumed and not self.live:
                warn_of_rate(self._shown, 1 / self.period)
            self.duration = self.part.length_of(self._decoder.duration)
            by = self._decoder.by  # not self: a cycle would keep the scaler's threads until garbage collection
            self._convert = PictureConverter(lambda: by.like).to_bgr
            self._pictures = self._decoder.pictures(self.part.start)
            self._first = self._next()
            if self._first is None:
                raise VljEdgeError(self._nothing())
            log_decoder(self._shown, self._decoder.by.name)
        except BaseException:
            self.close()
            raise

    @property
    def bad(self) -> int:
        """Number of packets that could not be decoded."""
        return int(self._decoder.bad)

    def frames(self) -> Iterator[Frame]:
        """See Source."""
        following, self._first = self._first, None
        while following is not None and not self._stop.is_set():
            yield following
            following = self._next()
        if not self._stop.is_set() and not self._at_end:
            self.incomplete = self._loss()

    def sound(self, start: float | None = None, end: float | None = None) -> Sound | None:
        """Open the sound of the part that is read, or between two times in seconds.

        Return None if there is no sound, the pictures' rate was changed, or the recording can be read only once.

        Raises:
            VljEdgeError: the recording cannot be opened again.
        """
        if self.part.frames_per_second is not None or self._form is not None or not self.rereadable or not self._again:
            return None
        if start is None:
            start, end = self.part.start, self.part.end
        place = self._again()
        if place is None:
            raise VljEdgeError(f"{self._shown} is no recording any more: its sound cannot be read")
        return open_sound(place, self._shown, self._options, start, end)

    def interrupt(self) -> None:
        """See Source."""
        self._stop.set()
        if not isinstance(self._place, Path):  # ends a waiting read
            self._place.close()

    def close(self) -> None:
        """See Source. The container is closed once the read that is in progress returns.

        Images of earlier frames can still be read.
        """
        self.interrupt()
        self._closed = True
        if self._reading.acquire(timeout=0.5):
            try:
                self._release()
            finally:
                self._reading.release()

    def _release(self) -> None:
        self._container.close()
        if self._decoder is not None:
            self._decoder.by.close()

    def _next(self) -> Frame | None:
        """Decode the next picture; None after the last, at the end of the part, or if this was interrupted."""
        with self._reading:
            try:
                if self._stop.is_set():
                    return None
                found = next(self._pictures, None)
                if found is None:
                    return None
                if self.part.end is not None and found[0] >= self.part.end - 1e-6:
                    self._at_end = True
                    return None
            finally:
                if self._closed:
                    self._release()
                if isinstance(self._place, Interruptible):
                    self._place.check()
        time, picture, until_next = found
        return Frame(time, partial(self._convert, picture, self._decoder.pixel_aspect), until_next)

    def _nothing(self) -> str:
        part, last = self.part, self._decoder.last_time
        end = self._decoder.end if last is None else last + self.period  # of the pictures: sound may be longer
        if not self._at_end and 0 < end <= part.start:
            return f"{self._shown} ends at {end:.1f} s: start before that, not at {part.start:g} s"
        if self._at_end or last is not None:
            until = "the end" if part.end is None else f"{part.end:g} s"
            return f"no picture of {self._shown} begins between {part.start:g} s and {until}: give a longer part"
        return (
            f"{self._shown} has no picture that can be decoded ({self._decoder.codec_name}, damaged): copy or record it"
            " again"
        )

    def _loss(self) -> str | None:
        """Return a line about the part that could not be read; None if nothing was lost."""
        decoder = self._decoder
        declared = decoder.declared or 0.0
        if decoder.failure is not None:
            return f"{self._shown} breaks off at {decoder.end:.1f} seconds ({decoder.failure}): copy or record it again"
        if declared - decoder.end > max(0.5, 0.002 * declared):  # below that, streams and header may differ
            return (
                f"{self._shown} breaks off at {decoder.end:.1f} of {declared:.1f} seconds: it is damaged,"
                " copy or record it again"
            )
        if decoder.lost_after is not None:
            return (
                f"{self._shown} is damaged: nothing after {decoder.lost_after:.1f} of {decoder.end:.1f} seconds could"
                " be decoded, copy or record it again"
            )
        if decoder.bad:
            return (
                f"{self._shown} is damaged: {decoder.bad} of its pictures could not be decoded and were skipped,"
                " copy or record it again"
            )
        return None
