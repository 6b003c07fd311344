"""Decodes a container to pictures, with the times at which a player shows them."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Iterator
from math import ceil, inf
from typing import Any

from .deinterlace import Deinterlacer
from .picture_decoder import DecoderChoice, PictureDecoder
from .pyav import MOST_PIXELS, import_av, picture_stream

_LOOKAHEAD = 20  # packets; a picture is shown at most 16 later than it is stored (H.264, A.3.1)
_DISTANT = 3600.0  # seconds; a larger jump of times is an error in the file, or the place where two files were joined
_DISORDER = 16  # pictures; times that go back by more restart (two files were joined), by less they are out of order
_BEGINNING = -10.0  # seconds; earlier than every packet, some of which precede the first picture
_BAD_READS = 100  # consecutive errors after which the rest of a container counts as lost
# Formats whose header states the duration. For others, FFmpeg estimates it.
_STATE_DURATION = {"mov", "matroska", "asf", "flv", "mxf"}
# Formats that store one time a packet, in decoding order. FFmpeg guesses the time at which its picture is shown.
_STATE_ORDER = {"avi", "asf"}
_MOST_ASPECT = 16  # of a pixel; a larger one is an error in the file, which would make pictures of gigabytes
_JOINABLE = {"mpegts", "mpeg"}  # formats whose files can be concatenated


class Decoder:
    """The pictures of a container, in the order of display.

    Packets that cannot be decoded are skipped and counted. Interlaced pictures are deinterlaced.

    Args:
        container: from open_container(). The caller closes it, but not during a call of this object.
        shown: its name in errors.
        sampled_at: samples a second that the caller takes, counted from the first picture; None: it takes all pictures.
            Pictures that no sample shows and no other picture is predicted from are then not decoded (non-reference
            pictures of H.264, HEVC, MPEG-2). The others are the same.
        frames_per_second: the pictures' rate in place of their own times.
        choice: see PictureDecoder.
        most_pixels: of a picture; larger ones cannot be decoded.

    Attributes:
        by: name of the decoder.
        period: nominal seconds between two pictures.
        rate_is_assumed: the pictures have neither times nor a rate, and `period` is a guess.
        codec_name: FFmpeg's name of the pictures' codec.
        bad: number of packets and pictures between the first and the last good one that could not be decoded. (A
            recording that was cut begins with pictures that depend on removed ones, and ends in the middle of one.)
        duration: seconds from the start of the container to its end, possibly estimated; None if unknown.
        declared: end of the container according to its header, seconds; None if the header has none.
        end: end of the last packet of any stream that was read, seconds.
        last_time: time of the latest good picture, even if it is before the part that is read, seconds; None before
            the first.
        failure: the error that ended reading; None if the container was read to its end.

    Raises:
        VljEdgeError: it holds no pictures that can be decoded.
    """

    def __init__(
        self,
        container: Any,
        shown: str,
        sampled_at: float | None = None,
        frames_per_second: float | None = None,
        choice: DecoderChoice = "software",
        most_pixels: int = MOST_PIXELS,
    ) -> None:
        self._container, self._sampled_at, self._forced_rate = container, sampled_at, frames_per_second
        self._stream = picture_stream(container, shown)
        self._codec = self._stream.codec_context
        self._codec.thread_type = "AUTO"
        self._codec.thread_count = 1  # the other cores run the engines
        self._is_mjpeg, options = self._codec.name == "mjpeg", {"max_pixels": str(most_pixels)}
        if self._is_mjpeg:  # one packet is one picture; FFmpeg would fill damaged ones with grey
            options["err_detect"] = "explode"
        self._codec.options = options
        timeless = container.start_time is None  # such as raw H.264, whose guessed rate is that of the pictures
        self.rate_is_assumed = timeless and not (frames_per_second or self._codec.framerate)
        average, guessed = self._stream.average_rate, self._stream.guessed_rate
        rate = frames_per_second or float((guessed if timeless else average) or average or guessed or 25)
        self.period = 1 / (rate if 1e-3 < rate <= 1000 else 25.0)  # some containers report a clock rate, such as 90000
        self.codec_name: str = self._codec.name
        self.by = PictureDecoder(self._stream, shown, choice)
        self._coded_aspect = self._codec.sample_aspect_ratio
        # With the times from which they are valid. The container's is first, until that of the pictures changes.
        self._aspects = [(-inf, _plausible(self._stream.sample_aspect_ratio))]
        self._formats = set(container.format.name.split(","))
        self._by_order = bool(self._formats & _STATE_ORDER)
        # The packets' times show which pictures no sample shows, as long as they are the pictures' own times.
        self._skips = sampled_at is not None and frames_per_second is None and not self._by_order
        self._origin = start_of(container)
        self.declared = self._declared()
        self.duration: float | None = self.declared or (container.duration / 1e6 if container.duration else None)
        self.bad, self._bad_since, self.end = 0, 0, 0.0
        self.failure: str | None = None
        self.last_time: float | None = None
        self._first_time: float | None = None
        self._latest: float | None = None  # own time of the latest good picture
        self._stored: Any = None  # the latest packet of the pictures
        self._unfounded_from: float | None = None  # pictures from this time on lack their key picture
        self._times: list[float] = []  # of the latest packets, in order
        self._deinterlacer: Deinterlacer | None = None

    def pictures(self, start: float = 0.0) -> Iterator[tuple[float, Any, float | None]]:
        """Yield, from time `start` on, the time of every picture, seconds, the picture (av.VideoFrame), and the
        seconds to the next one if that may be left out, otherwise None."""
        yield from self._shown(self._from(start), start)
        if self._first_time is None and start > 0 and self._formats & _JOINABLE and self._rewind():
            yield from self._shown(self._decoded(), start)  # its own times may restart and never be as late

    def _shown(self, pictures: Iterator[Any], start: float) -> Iterator[tuple[float, Any, float | None]]:
        clock = Clock(self.period, self._forced_rate is None)
        for picture in pictures:
            self._latest = self._time(picture)
            time = self.last_time = clock.time(self._latest)
            if time < start - 1e-6:
                continue
            if self._first_time is None:
                self._first_time = time
            else:
                self.bad += self._bad_since
            self._bad_since = 0
            yield time, picture, self._until_next(picture)

    @property
    def pixel_aspect(self) -> float:
        """Width of a pixel by its height, of the latest picture."""
        if self._latest is None:
            return self._aspects[-1][1]
        return next(aspect for since, aspect in reversed(self._aspects) if since <= self._latest)

    @property
    def lost_after(self) -> float | None:
        """Time of the last good picture if the recording continues but nothing more could be decoded, otherwise
        None."""
        stored = self._time(self._stored)
        if stored is None or self._latest is None or stored - self._latest <= max(0.5, _DISORDER * self.period):
            return None
        return self._latest

    def _declared(self) -> float | None:
        """Return the duration in the container's header, seconds; None if there is none."""
        if "avi" in self._formats:  # for a truncated file, FFmpeg computes it from the size
            return float(self._stream.frames) * self.period or None
        if not self._formats & _STATE_DURATION or not self._container.duration:
            return None
        # MP4 states a duration, the others an end time on their own clock.
        return float(self._container.duration / 1e6 - ("mov" not in self._formats) * max(0.0, self._origin))

    def _from(self, start: float) -> Iterator[Any]:
        """Yield pictures; the first is not later than `start` if possible."""
        seekable = start > 0 and self._forced_rate is None and self._container.start_time is not None
        pixels = self._codec.format  # not pix_fmt, which crashes PyAV 17.1 if it is not known yet
        seekable &= pixels is None or pixels.name != "pal8"  # a palette may be stored with the first picture only
        for earlier in (0.0, 1.0, 5.0, 30.0, 120.0) if seekable else ():
            if start <= earlier or not self._seek(start - earlier):
                break
            pictures = self._decoded()
            first = next(pictures, None)
            time = self._time(first)
            if time is not None and time <= start + 1e-6:
                yield first
                yield from pictures
                return
        if seekable:
            self._rewind()
        yield from self._decoded()

    def _rewind(self) -> bool:
        return self._seek(_BEGINNING) or self._seek(0.0)

    def _seek(self, time: float) -> bool:
        """Seek to the key picture at or before a time; return False if that is impossible, as in a pipe."""
        try:
            self._container.seek(int((time + self._origin) * 1e6), backward=True)
        except import_av().error.FFmpegError:
            return False
        self.by.flush()
        self._deinterlacer, self._unfounded_from, self._bad_since = None, None, 0
        self._times.clear()
        return True

    def _time(self, stored: Any) -> float | None:
        """Return the time of a picture or packet, seconds from the start of the container; None if it has none."""
        if stored is None or stored.pts is None:
            return None
        base = stored.time_base or self._stream.time_base
        return float(stored.pts * base.numerator / base.denominator) - self._origin

    def _decoded(self) -> Iterator[Any]:
        damaged = import_av().error.FFmpegError  # also "invalid argument" for half a raw picture
        failed = False
        for packet, needed in self._packets():
            if self._sampled_at is not None:
                self.by.context.skip_frame = "DEFAULT" if needed or self._deinterlacer else "NONREF"
            try:
                pictures = self.by.decode(packet)
            except damaged:
                self._bad_since, failed = self._bad_since + 1, True
                if packet is not None and packet.is_keyframe:
                    self._unfounded_from = self._time(packet)
                continue
            cut = packet is None and self.declared is None  # it may end anywhere, even in the middle of a picture
            self._bad_since, failed = max(0, self._bad_since - (cut and failed)), False
            if self._is_mjpeg and not pictures and packet is not None:
                self._bad_since += 1
            for picture in pictures:
                if self._by_order:
                    picture.pts = picture.dts
                if picture.key_frame and self.by.context.sample_aspect_ratio != self._coded_aspect:
                    self._coded_aspect = self.by.context.sample_aspect_ratio
                    self._aspects.append((self._time(picture) or -inf, _plausible(self._coded_aspect)))
                if self._is_good(picture):
                    yield from self._progressive(picture)
                else:
                    self._bad_since += not cut
        if self._deinterlacer is not None:
            yield from self._deinterlacer.rest()

    def _is_good(self, picture: Any) -> bool:
        """Return False for a picture that is damaged or predicted from a damaged key picture."""
        time = self._time(picture)
        if picture.key_frame:
            self._unfounded_from = time if picture.is_corrupt else None
        since = self._unfounded_from
        return not picture.is_corrupt and (time is None or since is None or time < since)

    def _progressive(self, picture: Any) -> Iterator[Any]:
        if self._deinterlacer is None and picture.interlaced_frame:
            self._deinterlacer = Deinterlacer()
        if self._deinterlacer is None:
            yield picture
        else:
            yield from self._deinterlacer.pictures(picture)

    def _packets(self) -> Iterator[tuple[Any, bool]]:
        """Yield the packets of the pictures, in order of decoding, and whether a sample shows their picture."""
        waiting: deque[Any] = deque()
        for packet in self._read():
            waiting.append(packet)
            self._note(packet)
            if len(waiting) > _LOOKAHEAD or not self._skips:
                del self._times[: -4 * _LOOKAHEAD]
                yield waiting[0], self._is_sampled(waiting.popleft())
        for packet in waiting:
            yield packet, self._is_sampled(packet)

    def _note(self, packet: Any) -> None:
        """Record a packet's time, as long as the times show which pictures can be left out."""
        if not self._skips or packet is None:
            return
        time, times = self._time(packet), self._times
        if time is None or time in times or (times and not -_DISORDER * self.period < time - times[-1] < _DISTANT):
            self._skips = False  # from here on every picture is decoded
            times.clear()
        else:
            insort(times, time)

    def _is_sampled(self, packet: Any) -> bool:
        """Return False if no sample shows this picture: none is between it and the next one, nor between the one
        before and it, which would show both."""
        time = self._time(packet)
        if not self._skips or time is None or self._first_time is None or self._sampled_at is None:
            return True
        before, following = bisect_left(self._times, time) - 1, bisect_right(self._times, time)
        if following == len(self._times) or before < 0 or time - self._times[before] >= 1 / self._sampled_at:
            return True
        sample = ceil((time - self._first_time) * self._sampled_at - 1e-3) / self._sampled_at
        return sample < self._times[following] - self._first_time + 1e-5

    def _until_next(self, picture: Any) -> float | None:
        time = self._time(picture)
        if not self._skips or time is None:
            return None
        following = bisect_right(self._times, time + 1e-6)
        return self._times[following] - time if following < len(self._times) else None

    def _read(self) -> Iterator[Any]:
        """Yield the packets of the pictures, then None, which flushes the decoder."""
        av, bad_reads = import_av(), 0
        while bad_reads < _BAD_READS:
            try:
                for packet in self._container.demux():
                    bad_reads = 0
                    if not packet.size:  # PyAV's end marker
                        continue
                    if packet.pts is not None:
                        base, end = packet.time_base, packet.pts + (packet.duration or 0)
                        self.end = max(self.end, end * base.numerator / base.denominator - self._origin)
                    if packet.stream_index == self._stream.index:
                        self._stored = packet
                        yield packet
                break
            except IndexError:  # PyAV's error at the end of a container in which a stream appeared late
                break
            except av.error.InvalidDataError:  # continue after it
                bad_reads += 1
                self._bad_since += 1
            except (av.error.FFmpegError, OSError) as error:
                self.failure = getattr(error, "strerror", None) or str(error)
                break
        yield None


def _plausible(aspect: Any) -> float:
    """Return the width of a pixel by its height; 1 if it is unknown or larger than any real one."""
    return float(aspect) if aspect and 1 / _MOST_ASPECT <= aspect <= _MOST_ASPECT else 1.0


def start_of(container: Any) -> float:
    """Return when the first stream begins, seconds, in that stream's own precision."""
    whole = (container.start_time or 0) / 1e6
    starts = [float(s.start_time * s.time_base) for s in container.streams if s.start_time is not None and s.time_base]
    return min([*starts, whole], key=lambda start: (abs(start - whole) > 2e-6, start == whole))


class Clock:
    """Makes times that never decrease from times that may be missing, jump, or restart where files were joined."""

    def __init__(self, period: float, trusted: bool) -> None:
        self._period, self._trusted = period, trusted
        self._shift = 0.0
        self._latest: float | None = None
        self._stored: float | None = None  # the latest picture's own time

    def time(self, stored: float | None) -> float:
        """Return the time of the next picture, seconds.

        Args:
            stored: its own time; None if it has none.
        """
        latest = self._latest
        due = 0.0 if latest is None else latest + self._period
        if stored is None or stored == self._stored or not self._trusted:
            self._latest = due
        elif latest is None:
            self._latest = stored
        else:
            if not -_DISORDER * self._period < stored + self._shift - latest < _DISTANT:
                self._shift = due - stored
            self._latest = max(latest, stored + self._shift)
        self._stored = stored
        return self._latest
