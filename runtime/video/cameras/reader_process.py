"""The parent's side of a reader process (camera_process.py): starting it, its frames and messages, and its end."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress

from ..readable import is_readable
from .camera_address import CameraAddress
from .shared_frames import SharedFrame, SharedFrames, create_shared_memory

_LONGEST_GROUP = 120.0  # seconds with packets but no picture after which a stream counts as without pictures
_MEMORY = 3 << 30  # bytes that a reader may allocate: a stream of 8K takes about 1 GB
_CLOSING = 0.4  # seconds to wait for a killed process, and for a thread that reads from it


class ReaderProcess:
    """The parent's side of one reader process. kill() and close() may be called from any thread, repeatedly.

    Args:
        every: minimum seconds between two frames.
        command: the command line of the process.
        limits: arguments of limit_this_process().
        on_request: the process reads a frame for each call of request(), and drops none.

    Attributes:
        period: nominal seconds between two frames, as reported by the source.
        decoder: name of the decoder, see PictureDecoder; None if unknown.
        warning: settings that the source did not accept; None if it accepted all.
        failure: why it could not read the source; None if unknown.
        finished: whether it has read a recording to its end.
        bad: number of frames that could not be decoded, as of the last call of next().
    """

    def __init__(
        self,
        address: CameraAddress,
        every: float,
        command: Sequence[str],
        limits: dict[str, int] | None = None,
        on_request: bool = False,
    ) -> None:
        self.period, self.bad = 1 / 30, 0
        self.warning: str | None = None
        self.decoder: str | None = None
        self.failure: str | None = None
        self.finished = False
        self._packet_at = 0.0  # time of the last packet
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
            "limits": limits or {"memory": _MEMORY},
        }
        with ExitStack() as on_error, ExitStack() as childs_ends:
            memory = create_shared_memory()
            childs_ends.callback(os.close, memory)
            self._pipe, childs_pipe = os.pipe()
            on_error.callback(os.close, self._pipe)
            childs_ends.callback(os.close, childs_pipe)
            os.set_blocking(self._pipe, False)
            self._frames = SharedFrames(memory)
            on_error.callback(self._frames.close)
            self._process = subprocess.Popen(
                [*command, str(memory), str(childs_pipe)],
                pass_fds=(memory, childs_pipe),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # FFmpeg's messages may contain the address
            )
            on_error.callback(self._end_process)
            assert self._process.stdin is not None
            self._requests = self._process.stdin
            on_error.callback(self._end_requests)
            with suppress(BrokenPipeError):  # it has died already, which next() reports
                self._requests.write(json.dumps(request).encode() + b"\n")
                self._requests.flush()
            if not on_request:
                self._end_requests()
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
        """Return the newest frame that was not returned yet; wait for one if there is none.

        Return None if nothing arrived for `patience` seconds, or only packets without a frame for _LONGEST_GROUP, or
        the process ended or was killed, or `stop` is set. on_waiting() is called when packets arrive without a frame.
        """
        started = self._packet_at = time.monotonic()
        with self._reading:
            while stop is None or not stop.is_set():
                if self._closed:
                    return None
                shared = self._frames.read_newest(self._newest)
                self.bad = self._frames.bad
                if shared is not None:
                    self._newest = shared.number
                    return shared
                remaining = min(self._packet_at + patience, started + _LONGEST_GROUP) - time.monotonic()
                if self._ended or remaining <= 0:
                    return None
                # A killed process closes its end of the pipe, which ends the wait at once. One that hangs in a driver
                # cannot be killed, hence the short waits.
                if is_readable(self._pipe, min(remaining, 0.2)):
                    packet_at = self._packet_at
                    self._read_lines()
                    if self._packet_at > packet_at:
                        on_waiting()
        return None

    @property
    def ended(self) -> bool:
        """Whether the process has ended, or read all there is."""
        return self._ended

    def request(self) -> None:
        """Ask for the next frame."""
        with suppress(OSError, ValueError):  # it has died, or this is closed: next() says so
            self._requests.write(b".")
            self._requests.flush()

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

    def _end_requests(self) -> None:
        with suppress(OSError):  # a byte for a process that has died
            self._requests.close()

    def _read_lines(self) -> None:
        raw = os.read(self._pipe, 65536)
        if not raw:
            self._ended = True
        *lines, self._text = (self._text + raw).split(b"\n")
        for line in lines:
            kind, _, content = line.decode().partition(" ")
            if kind == "open":
                rate = float(content.split()[0])
                self.period = 1 / rate if 1e-3 < rate <= 1000 else 1 / 30
            elif kind == "waiting":
                self._packet_at = time.monotonic()
            elif kind == "warning":
                self.warning = content
            elif kind == "decoder":
                self.decoder = content
            elif kind in ("end", "failed", "finished"):
                self._ended, self.failure = True, content or None
                self.finished = self.finished or kind == "finished"
