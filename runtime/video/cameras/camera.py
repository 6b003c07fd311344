"""Live sources: cameras, RTSP and HTTP streams.

Each is read by a process of its own (camera_process.py), because a read that hangs can only be ended by killing the
process it runs in. A reader that ends or gives no frames is replaced by a new one.
"""

from __future__ import annotations

import json
import logging
import os
import random
import select
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Literal

from vlj_edge.child import python_command
from vlj_edge.errors import VljEdgeError

from ..decoding.picture_decoder import DecoderChoice, say_decoder
from ..source import Frame, Source
from .shared_frames import SharedFrame, SharedFrames, create_shared_memory

CameraState = Literal["connecting", "waiting for a key frame", "live", "lost", "ended"]

_LOG = logging.getLogger(__name__)

_READER = python_command("vlj_edge.runtime.video.cameras.camera_process")
# Seconds between two tries, doubled each time, with jitter. The longest is short enough for a camera that was away for
# half a minute to give frames again within five seconds of its return; after many tries the pause grows.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 1.5
_PATIENT_AFTER, _PATIENT_PAUSE = 60, 10.0  # tries, seconds
_LONGEST_GROUP = 120.0  # seconds; a stream whose packets come and hold no picture for so long has none
_CLOSING = 0.4  # seconds to wait for a killed process, and for a thread that reads from it


@dataclass(frozen=True)
class CameraAddress:
    """What a reader process opens.

    Attributes:
        shown: the address without credentials, for messages.
        place: a URL; for OpenCV the first argument of its VideoCapture.
        reader: what reads it: "ffmpeg" for rtsp, rtmp, srt, udp and rtp, "http", or "opencv".
        backend: OpenCV's video backend: V4L2 or GSTREAMER.
        settings: what a webcam is asked for, in this order: format (four letters), width, height (pixels), fps.
        decoder: of "ffmpeg" and "http", see PictureDecoder.
        remedy: what to do when it gives no frame, for the error.
    """

    shown: str
    place: str | int = field(repr=False)
    reader: Literal["ffmpeg", "http", "opencv"] = "opencv"
    backend: Literal["V4L2", "GSTREAMER"] = "V4L2"
    settings: dict[str, float | str] = field(default_factory=dict)
    decoder: DecoderChoice = "auto"
    remedy: str = "check that it is there"


class CameraSource(Source):
    """A live source. A slow consumer gets the newest frame, so the lag cannot grow. A source that is lost is opened
    again until it comes back.

    Args:
        every: seconds between two frames at least; frames in between are skipped. Snapshots are asked for four times
            more rarely.
        stale: seconds without a frame after which the reader process is killed and started again.
        opening: seconds to wait for the first packet.
        keep_trying: wait for a source that is not there yet, instead of raising an error.
        on_state: called with the new state after every change, by the thread that iterates.
        reader: the command line of the reader process.

    Attributes:
        state: "connecting", "waiting for a key frame" (packets come, no picture yet), "live", "lost" or "ended".
        dropped: frames that were replaced by newer ones before they were read.
        failure: why it gives no picture, in words; None while it does, or where that is not known.
        restarts: how often the reader process was started again.

    Raises:
        VljEdgeError: the source gives no frame.
    """

    live = True

    def __init__(
        self,
        address: CameraAddress,
        every: float = 1 / 16,
        stale: float = 5.0,
        opening: float = 15.0,
        keep_trying: bool = False,
        on_state: Callable[[CameraState], None] = lambda state: None,
        reader: Sequence[str] = _READER,
    ) -> None:
        self.address, self._every, self._stale, self._opening = address, every, stale, opening
        self._on_state, self._command = on_state, tuple(reader)
        self.state: CameraState = "connecting"
        self.failure: str | None = None
        self.period = 1 / 30
        self.dropped = self.restarts = self._bad_before = 0
        self._reader: _ReaderProcess | None = None
        self._stop = threading.Event()
        self._origin: float | None = None
        self._first: SharedFrame | None = None
        self._warned: str | None = None
        self._decoder: str | None = None
        if keep_trying:
            return
        try:
            self._first = self._start_reader().next(opening, on_waiting=self._set_waiting)
            if self._first is None:
                raise VljEdgeError(self._nothing())
        except BaseException:  # also Ctrl-C while it is waited for
            self.close()
            raise

    @property
    def origin(self) -> float | None:
        """time.monotonic() of the first frame; None before it."""
        return self._origin

    @property
    def bad(self) -> int:
        """Number of frames that could not be decoded."""
        reader = self._reader
        return self._bad_before + (reader.bad if reader is not None else 0)

    def frames(self) -> Iterator[Frame]:
        """See Source. Ends when the source is interrupted or closed, or turns out to be a recording and ends."""
        failures = 0
        try:
            while not self._stop.is_set():
                for shared in self._frames_of_one_reader():
                    failures = 0
                    yield self._frame(shared)
                if self._stop.is_set() or (self._reader is not None and self._reader.finished):
                    break
                self.failure = self._reader.failure if self._reader is not None else None
                self._close_reader()
                self._set_state("lost")
                longest = _LONGEST_PAUSE if failures < _PATIENT_AFTER else _PATIENT_PAUSE
                pause = min(_FIRST_PAUSE * 2**failures, longest)
                failures = min(failures + 1, 100)
                self._stop.wait(pause * random.uniform(0.5, 1))
        finally:
            self._close_reader()
            self._set_state("ended")

    def interrupt(self) -> None:
        """See Source. Kills the reader process."""
        self._stop.set()
        reader = self._reader
        if reader is not None:
            reader.kill()

    def close(self) -> None:
        """See Source."""
        self._stop.set()
        reader = self._reader
        if reader is not None:
            reader.close()

    def _start_reader(self) -> _ReaderProcess:
        reader = self._reader = _ReaderProcess(self.address, self._every, self._command)
        if self._stop.is_set():  # interrupt() came before it could see this process
            reader.kill()
        return reader

    def _frames_of_one_reader(self) -> Iterator[SharedFrame]:
        """Yield frames until the reader process ends, hangs or is killed."""
        reader, patience = self._reader, self._stale
        if reader is None:
            self.restarts += self._origin is not None
            reader, patience = self._start_reader(), self._opening
        shared, self._first = self._first, None
        last = 0
        while not self._stop.is_set():
            shared = shared or reader.next(patience, self._stop, self._set_waiting)
            if shared is None:
                return
            self.failure = None
            self._set_state("live")
            self._tell(reader)
            self.period, patience = reader.period, self._stale
            self.dropped += shared.number - last - 1
            last = shared.number
            yield shared
            shared = None

    def _frame(self, shared: SharedFrame) -> Frame:
        self._origin = shared.time if self._origin is None else self._origin
        return Frame(shared.time - self._origin, shared.image)

    def _nothing(self) -> str:
        """Say why there is no first frame."""
        reader, address = self._reader, self.address
        reason = reader.failure if reader is not None else None
        if reason is not None and reason.startswith(address.shown):  # it says what to do by itself
            return reason
        if self.state == "waiting for a key frame":
            return (
                f"{address.shown} sends data, but no key frame, with which pictures begin: set a shorter key frame"
                " interval (GOP, I-frame interval) in the camera"
            )
        return f"{address.shown} gives no picture{f' ({reason})' if reason else ''}: {address.remedy}"

    def _close_reader(self) -> None:
        reader = self._reader
        if reader is not None:
            reader.close()
            self._bad_before, self._reader = self._bad_before + reader.bad, None

    def _tell(self, reader: _ReaderProcess) -> None:
        """Log what a reader says of its source: once, however often it is started again."""
        if reader.warning not in (None, self._warned):
            _LOG.warning("%s", reader.warning)
            self._warned = reader.warning
        if reader.decoder not in (None, self._decoder):
            say_decoder(self.address.shown, str(reader.decoder))
            self._decoder = reader.decoder

    def _set_waiting(self) -> None:
        self._set_state("waiting for a key frame")

    def _set_state(self, state: CameraState) -> None:
        if state != self.state:
            self.state = state
            self._on_state(state)


class _ReaderProcess:
    """The parent's side of one reader process. kill() and close() may be called from any thread, repeatedly.

    Attributes:
        period: nominal seconds between two frames, as reported by the source.
        decoder: what decodes, see PictureDecoder; None if it did not say.
        warning: what of the source is not as it was asked for, in words; None if all is.
        failure: why it could not read the source, in words; None if it did not say.
        finished: it has read a recording to its end.
        bad: number of frames that could not be decoded, as of the last call of next().
    """

    def __init__(self, address: CameraAddress, every: float, command: Sequence[str]) -> None:
        self.period, self.bad = 1 / 30, 0
        self.warning: str | None = None
        self.decoder: str | None = None
        self.failure: str | None = None
        self.finished = False
        self._heard_at = 0.0  # when the last packet came
        self._text = b""
        self._ended = self._closed = False
        self._newest = 0  # number of the last frame returned
        self._reading = threading.Lock()  # held while the pipe and the shared memory are in use
        request = {
            "place": address.place,
            "reader": address.reader,
            "backend": address.backend,
            "settings": address.settings,
            "shown": address.shown,
            "decoder": address.decoder,
            "every": every,
            "polled": 4 * every,
            "parent": os.getpid(),
        }
        with ExitStack() as on_error, ExitStack() as childs_ends:
            memory = create_shared_memory()
            childs_ends.callback(os.close, memory)
            self._news, childs_news = os.pipe()
            on_error.callback(os.close, self._news)
            childs_ends.callback(os.close, childs_news)
            os.set_blocking(self._news, False)
            self._frames = SharedFrames(memory)
            on_error.callback(self._frames.close)
            self._process = subprocess.Popen(
                [*command, str(memory), str(childs_news)],
                pass_fds=(memory, childs_news),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # what FFmpeg writes there may quote the address
            )
            on_error.callback(self._end_process)
            assert self._process.stdin is not None
            with suppress(BrokenPipeError), self._process.stdin as stdin:  # it has died already, as next() will find
                stdin.write(json.dumps(request).encode())
            self._resources = on_error.pop_all()

    def __del__(self) -> None:
        if hasattr(self, "_resources"):
            self.close()

    def next(
        self,
        patience: float,
        stop: threading.Event | None = None,
        on_waiting: Callable[[], None] = lambda: None,
    ) -> SharedFrame | None:
        """Return the newest frame that was not returned yet, waiting for one if need be.

        None if nothing came for `patience` seconds, or packets without a frame for _LONGEST_GROUP, the process ended or
        was killed, or `stop` is set. on_waiting() is called when packets come without a frame.
        """
        begun = self._heard_at = time.monotonic()
        with self._reading:
            while stop is None or not stop.is_set():
                if self._closed:
                    return None
                shared = self._frames.read_newest(self._newest)
                self.bad = self._frames.bad
                if shared is not None:
                    self._newest = shared.number
                    return shared
                left = min(self._heard_at + patience, begun + _LONGEST_GROUP) - time.monotonic()
                if self._ended or left <= 0:
                    return None
                # A process that is killed closes its end of the pipe, which ends the wait at once. One that hangs in
                # a driver cannot be killed: hence the short waits.
                if select.select([self._news], [], [], min(left, 0.2))[0]:
                    heard_at = self._heard_at
                    self._read_news()
                    if self._heard_at > heard_at:
                        on_waiting()
        return None

    def kill(self) -> None:
        """Kill the process, which ends a wait in next()."""
        self._process.kill()

    def close(self) -> None:
        """Kill the process and release the pipe and the shared memory."""
        self._end_process()
        if self._reading.acquire(timeout=_CLOSING):
            try:
                self._closed = True
                self._resources.close()
            finally:
                self._reading.release()

    def _end_process(self) -> None:
        self.kill()
        with suppress(subprocess.TimeoutExpired):  # it hangs in a driver
            self._process.wait(_CLOSING)

    def _read_news(self) -> None:
        raw = os.read(self._news, 65536)
        if not raw:
            self._ended = True
        *lines, self._text = (self._text + raw).split(b"\n")
        for line in lines:
            word, _, rest = line.decode().partition(" ")
            if word == "open":
                rate = float(rest.split()[0])
                self.period = 1 / rate if 1e-3 < rate <= 1000 else 1 / 30
            elif word == "waiting":
                self._heard_at = time.monotonic()
            elif word == "warning":
                self.warning = rest
            elif word == "decoder":
                self.decoder = rest
            elif word in ("end", "failed", "finished"):
                self._ended, self.failure = True, rest or None
                self.finished = self.finished or word == "finished"
