"""Live sources: cameras, RTSP and HTTP streams.

Each is read by a process of its own (camera_process.py), because a hanging read can only be ended by killing its
process. A reader that ends or gives no frames is replaced by a new one.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

from vlj_edge.child import python_command
from vlj_edge.errors import VljEdgeError

from ..decoding.picture_decoder import log_decoder
from ..source import Frame, Source
from .camera_address import CameraAddress
from .reader_process import ReaderProcess
from .shared_frames import SharedFrame

CameraState = Literal["connecting", "waiting for a key frame", "live", "lost", "ended"]

_LOG = logging.getLogger(__name__)

_READER = python_command("vlj_edge.runtime.video.cameras.camera_process")
# Seconds between two attempts, doubled each time, with jitter. The longest is short enough that a camera which was
# away for half a minute gives frames again within five seconds of its return; after many attempts the pause grows.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 1.5
_PATIENT_AFTER, _PATIENT_PAUSE = 60, 10.0  # tries, seconds


class CameraSource(Source):
    """A live source. A slow consumer gets the newest frame, so the lag cannot grow. A lost source is reopened until it
    comes back.

    Args:
        every: minimum seconds between two frames; frames in between are skipped. Snapshots are requested four times
            less often.
        stale: seconds without a frame after which the reader process is killed and started again.
        opening: seconds to wait for the first packet.
        keep_trying: wait for a source that cannot be opened yet, instead of raising an error.
        on_state: called with the new state after every change, by the thread that iterates.
        reader: the command line of the reader process.

    Attributes:
        state: "connecting", "waiting for a key frame" (packets arrive, but no picture yet), "live", "lost" or "ended".
        dropped: number of frames that were replaced by newer ones before they were read.
        failure: why it gives no picture; None while it does, or before that is known.
        restarts: number of restarts of the reader process.

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
        self._reader: ReaderProcess | None = None
        self._counting = threading.Lock()  # held while a reader's frames are added up, or they would be counted twice
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
                raise VljEdgeError(self._no_frame_error())
        except BaseException:  # also Ctrl-C during the wait
            self.close()
            raise

    @property
    def origin(self) -> float | None:
        """time.monotonic() of the first frame; None before it."""
        return self._origin

    @property
    def bad(self) -> int:
        """Number of frames that could not be decoded."""
        with self._counting:
            return self._bad_before + (self._reader.bad if self._reader is not None else 0)

    def frames(self) -> Iterator[Frame]:
        """See Source. Ends when the source is interrupted or closed, or is a recording that ends."""
        failures = 0
        try:
            while not self._stop.is_set():
                for shared in self._frames_of_one_reader():
                    failures = 0
                    yield self._frame(shared)
                if self._stop.is_set() or (self._reader is not None and self._reader.finished):
                    break
                if self._reader is not None:
                    silence = "its stream has ended" if self._reader.ended else "it does not answer"
                    self.failure = self._reader.failure or silence
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

    def _start_reader(self) -> ReaderProcess:
        reader = self._reader = ReaderProcess(self.address, self._every, self._command)
        if self._stop.is_set():  # interrupt() was called before this process existed
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
            self._log_messages(reader)
            self.period, patience = reader.period, self._stale
            self.dropped += shared.number - last - 1
            last = shared.number
            yield shared
            shared = None

    def _frame(self, shared: SharedFrame) -> Frame:
        self._origin = shared.time if self._origin is None else self._origin
        return Frame(shared.time - self._origin, shared.image)

    def _no_frame_error(self) -> str:
        """Return the error about a missing first frame."""
        reader, address = self._reader, self.address
        reason = reader.failure if reader is not None else None
        if reason is not None and reason.startswith(address.shown):  # the reason contains advice itself
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
            with self._counting:
                self._bad_before, self._reader = self._bad_before + reader.bad, None

    def _log_messages(self, reader: ReaderProcess) -> None:
        """Log a reader's messages about its source, once, however often it is restarted."""
        if reader.warning not in (None, self._warned):
            _LOG.warning("%s", reader.warning)
            self._warned = reader.warning
        if reader.decoder not in (None, self._decoder):
            log_decoder(self.address.shown, str(reader.decoder))
            self._decoder = reader.decoder

    def _set_waiting(self) -> None:
        self._set_state("waiting for a key frame")

    def _set_state(self, state: CameraState) -> None:
        if state != self.state:
            self.state = state
            self._on_state(state)
