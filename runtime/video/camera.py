"""Live sources: cameras, RTSP and HTTP streams, read by a process of their own that can be killed and started again."""

from __future__ import annotations

import json
import os
import random
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from vlj_edge.errors import VljEdgeError

from .shared_frames import SharedFrame, SharedFrames, create_shared_memory
from .source import Frame, Source

CameraState = Literal["connecting", "live", "lost", "ended"]

_READER = (sys.executable, "-m", "vlj_edge.runtime.video.camera_process")
# Seconds between two tries, doubled each time, half of it by chance. The longest is short enough for a camera that was
# away for half a minute to be narrated again within five seconds of its return; what stays away costs less later.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 1.5
_PATIENT_AFTER, _PATIENT_PAUSE = 60, 10.0  # tries


@dataclass(frozen=True)
class CameraAddress:
    """What a reader opens.

    Attributes:
        shown: its name, without credentials.
        place: what OpenCV's VideoCapture takes.
        backend: of OpenCV: ANY, V4L2, FFMPEG or GSTREAMER.
        environment: that the reader gets besides.
        remedy: what to do when it gives no picture.
    """

    shown: str
    place: str | int = field(repr=False)
    backend: str = "ANY"
    environment: dict[str, str] = field(default_factory=dict)
    remedy: str = "check that it is there"


class CameraSource(Source):
    """A live source. Whoever is late gets the newest frame, and the lag cannot grow; a source that is lost is opened
    again, for as long as it takes.

    Args:
        every: seconds; pictures need not come more often.
        stale: seconds without a frame after which the reader is killed and started again.
        opening: seconds for the first frame, after which the source is taken not to be there.
        keep_trying: wait for a source that is not there yet, in place of an error.
        told: is told of every change of state, by the thread that iterates.
        reader: the command that reads.

    Attributes:
        state: "connecting", "live", "lost" or "ended".
        dropped: frames that were replaced by newer ones before they were taken.
        restarts: of the reader.
        bad: frames that could not be decoded.

    Raises:
        VljEdgeError: there is no picture.
    """

    live = True

    def __init__(
        self,
        address: CameraAddress,
        every: float = 1 / 16,
        stale: float = 5.0,
        opening: float = 15.0,
        keep_trying: bool = False,
        told: Callable[[CameraState], None] = lambda state: None,
        reader: Sequence[str] = _READER,
    ) -> None:
        self.address, self._every, self._stale, self._opening = address, every, stale, opening
        self._told, self._command = told, tuple(reader)
        self.state: CameraState = "connecting"
        self.period = 1 / 30
        self.dropped = self.restarts = self._bad_before = 0
        self._reader: _ReaderProcess | None = None
        self._stop, self._iterating = threading.Event(), False
        self._origin: float | None = None
        self._first: SharedFrame | None = None
        if not keep_trying:
            self._reader = _ReaderProcess(address, every, self._command)
            self._first = self._reader.next(opening)
            if self._first is None:
                self.close()
                raise VljEdgeError(f"{address.shown} gives no picture: {address.remedy}")

    @property
    def origin(self) -> float | None:
        """time.monotonic() of the first frame; None: there was none yet."""
        return self._origin

    @property
    def recording(self) -> bool:
        """It says how many frames it has: it is no live source."""
        return self._reader is not None and self._reader.count > 0

    @property
    def bad(self) -> int:
        """Frames that could not be decoded."""
        return self._bad_before + (self._reader.slots.bad if self._reader is not None else 0)

    def frames(self) -> Iterator[Frame]:
        """See Source. Ends when the source is closed."""
        failures = 0
        self._iterating = True
        try:
            while not self._stop.is_set():
                for taken in self._pictures():
                    failures = 0
                    yield self._frame(taken)
                if self._stop.is_set():
                    break
                self._let_go("lost")
                longest = _LONGEST_PAUSE if failures < _PATIENT_AFTER else _PATIENT_PAUSE
                pause = min(_FIRST_PAUSE * 2**failures, longest)
                failures = min(failures + 1, 100)
                self._stop.wait(pause * random.uniform(0.5, 1))
        finally:
            self._let_go("ended")

    def close(self) -> None:
        """See Source."""
        self._stop.set()
        reader = self._reader
        if reader is not None:
            reader.kill()  # who waits for its frames sees that at once, and lets go of it
            if not self._iterating:
                reader.close()

    def _pictures(self) -> Iterator[SharedFrame]:
        """Of one reader, until it gives none any more."""
        wait = self._stale
        if self._reader is None:
            self._reader, wait = _ReaderProcess(self.address, self._every, self._command), self._opening
            self.restarts += self._origin is not None
        taken, self._first = self._first, None
        before = 0
        while not self._stop.is_set():
            taken = taken or self._reader.next(wait, self._stop)
            if taken is None:
                return
            self._be("live")
            self.period, wait = self._reader.period, self._stale
            self.dropped += taken.number - before - 1
            before = taken.number
            yield taken
            taken = None

    def _frame(self, taken: SharedFrame) -> Frame:
        self._origin = taken.time if self._origin is None else self._origin
        return Frame(taken.time - self._origin, taken.image)

    def _let_go(self, state: CameraState) -> None:
        if self._reader is not None:
            self._bad_before += self._reader.slots.bad
            self._reader.kill()
            self._reader.close()
            self._reader = None
        self._be(state)

    def _be(self, state: CameraState) -> None:
        if state != self.state:
            self.state = state
            self._told(state)


class _ReaderProcess:
    """One reader process.

    Attributes:
        period: seconds between two frames, as the source says.
        count: of frames that it has; 0 for what is live.
    """

    def __init__(self, address: CameraAddress, every: float, command: Sequence[str]) -> None:
        self.period, self.count = 1 / 30, 0.0
        self._text = b""
        self._ended = False
        memory = create_shared_memory()
        self._news, theirs = os.pipe()
        os.set_blocking(self._news, False)
        try:
            self.slots = SharedFrames(memory)
            self._process = subprocess.Popen(
                [*command, str(memory), str(theirs)],
                pass_fds=(memory, theirs),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # what FFmpeg writes there may quote the address
            )
        finally:
            os.close(memory)
            os.close(theirs)
        wanted = {
            "place": address.place,
            "backend": address.backend,
            "environment": address.environment,
            "every": every,
            "parent": os.getpid(),
        }
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(wanted).encode())
            self._process.stdin.close()
        except BrokenPipeError:  # it has died already, which next() will see
            pass
        self._taken = 0

    def next(self, patience: float, stop: threading.Event | None = None) -> SharedFrame | None:
        """The newest frame that is not taken yet; None: none came for `patience` seconds, the reader ended, or stop."""
        until = time.monotonic() + patience
        while stop is None or not stop.is_set():
            taken = self.slots.take(self._taken)
            if taken is not None:
                self._taken = taken.number
                return taken
            left = until - time.monotonic()
            if self._ended or left <= 0:
                return None
            if select.select([self._news], [], [], min(left, 0.2))[0]:
                self._hear()
        return None

    def kill(self) -> None:
        """End it, whatever it is at."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Let go of what it used. It must have been killed."""
        if self._news >= 0:
            os.close(self._news)
            self._news = -1
            self.slots.close()

    def _hear(self) -> None:
        raw = os.read(self._news, 65536)
        if not raw:
            self._ended = True
        *lines, self._text = (self._text + raw).split(b"\n")
        for line in lines:
            word, *numbers = line.decode().split()
            if word == "open":
                rate, self.count = float(numbers[0]), float(numbers[1])
                self.period = 1 / rate if 1e-3 < rate <= 1000 else 1 / 30
            elif word in ("end", "closed"):
                self._ended = True
