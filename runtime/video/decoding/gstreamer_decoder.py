"""Decodes FFmpeg's packets with GStreamer (a Jetson's nvv4l2decoder), in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from ..readable import is_readable
from .gstreamer_process import PACKET, PICTURE
from .pyav import import_av

_PARSERS = {"h264": ("h264parse", "video/x-h264", "avc"), "hevc": ("h265parse", "video/x-h265", "hvc1")}
_NVIDIA = "nvv4l2decoder ! nvvidconv"
_MOST_BEHIND = 24  # packets that the decoder may hold: 16 to reorder pictures, and some in its queues
_PATIENCE = 5.0  # seconds without a picture, after which the decoder counts as stuck
_BEGINNING = 3_600_000_000  # microseconds; GStreamer's times are never negative, those of packets may be


class GStreamerDecoder:
    """See Hardware. Pictures come with the times of their packets.

    Args:
        stream: of a container.
        elements: pipeline elements that decode and copy pictures to the CPU's memory.
    """

    def __init__(self, stream: Any, elements: str = _NVIDIA) -> None:
        codec = stream.codec_context
        pixels = codec.format.name if codec.format is not None else "yuv420p"
        if codec.name not in _PARSERS or pixels not in ("yuv420p", "yuvj420p"):
            raise ValueError(f"it does not read {codec.name} in {pixels}")
        self._stream = stream
        parser, kind, stored = _PARSERS[codec.name]
        form = "byte-stream,alignment=au"
        if codec.extradata and codec.extradata[0] == 1:  # as in MP4: each unit has its length before it
            form = f"{stored},alignment=au,codec_data=(buffer){codec.extradata.hex()}"
        self._text = (
            f'appsrc name=packets format=time max-bytes=0 caps="{kind},stream-format={form}" ! {parser} ! {elements} !'
            " video/x-raw,format=I420 ! appsink name=pictures sync=false max-buffers=4"
        )
        self._process: subprocess.Popen[bytes] | None = None
        self._waiting: dict[int, tuple[Any, ...]] = {}  # by time in microseconds: packets without a picture so far

    def decode(self, packet: Any) -> list[Any]:
        """See Hardware.

        Raises:
            RuntimeError, OSError: GStreamer reports an error, or gives no picture.
        """
        if self._process is None:
            command = [sys.executable, str(Path(__file__).with_name("gstreamer_process.py")), self._text]
            pipe = subprocess.PIPE
            self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, bufsize=0)
        if packet is None:
            self._send(PACKET.pack(0, 0, 0))
            return self._pull(0)
        if packet.pts is None:
            raise RuntimeError("a packet has no time")
        time = round(packet.pts * packet.time_base * 1_000_000) + _BEGINNING
        decoded_at = -1 if packet.dts is None else round(packet.dts * packet.time_base * 1_000_000) + _BEGINNING
        self._waiting[time] = (packet.pts, packet.time_base, packet.is_keyframe, packet.is_discard)
        self._send(PACKET.pack(time, decoded_at, packet.size) + bytes(packet))
        return self._pull(_MOST_BEHIND)

    def flush(self) -> None:
        """See Hardware."""
        self.close()

    def close(self) -> None:
        """See Hardware. The process is killed."""
        process, self._process = self._process, None
        self._waiting.clear()
        if process is not None:
            process.kill()
            with suppress(OSError):
                process.communicate(timeout=0.4)

    def _send(self, raw: bytes) -> None:
        assert self._process is not None and self._process.stdin is not None
        with suppress(BrokenPipeError):  # its error is in the other pipe
            left = memoryview(raw)
            while left:
                left = left[self._process.stdin.write(left) or 0 :]

    def _pull(self, most_behind: int) -> list[Any]:
        """Return the available pictures; wait while more than `most_behind` packets have none."""
        assert self._process is not None and self._process.stdout is not None
        output, found = self._process.stdout, list[Any]()
        while True:
            waits = len(self._waiting) > most_behind
            if not is_readable(output, _PATIENCE if waits else 0.0):
                if waits:
                    raise RuntimeError(f"it gave no picture for {_PATIENCE:g} seconds")
                return found
            header = _read(output, PICTURE.size)
            if len(header) < PICTURE.size:
                if most_behind == 0:  # the end: packets without a picture by now are damaged
                    return found
                raise RuntimeError("it has ended")
            time, width, height, size = PICTURE.unpack(header)
            raw = _read(output, size)
            if not width:
                raise RuntimeError(raw.decode(errors="replace"))
            picture = self._picture(time, width, height, np.frombuffer(raw, np.uint8))
            if picture is not None:
                found.append(picture)

    def _picture(self, time: int, width: int, height: int, raw: Any) -> Any:
        """Return an av.VideoFrame of I420; None if it is not to be shown."""
        key = min(self._waiting, key=lambda waiting: abs(waiting - time), default=None)
        if key is None or abs(key - time) > 1:
            raise RuntimeError("it gave a picture with a time that no packet has")
        pts, time_base, is_key, is_discarded = self._waiting.pop(key)
        if is_discarded:
            return None
        picture = import_av().VideoFrame(width, height, "yuv420p")
        at = 0
        for number, plane in enumerate(picture.planes):  # rows are padded to four bytes, by FFmpeg to more
            line, lines = -(-plane.width // 4) * 4, -(-height // 2) * 2 if number == 0 else plane.height
            target = np.zeros((plane.height, plane.line_size), np.uint8)
            target[:, : plane.width] = raw[at : at + line * lines].reshape(lines, line)[: plane.height, : plane.width]
            plane.update(target)
            at += line * lines
        picture.pts, picture.time_base, picture.key_frame = pts, time_base, is_key
        codec = self._stream.codec_context
        picture.colorspace, picture.color_range = codec.colorspace, codec.color_range
        return picture


def _read(output: Any, count: int) -> bytes:
    """Read `count` bytes, fewer at the end. Nothing is buffered, since select() would not see it."""
    raw = bytearray()
    while len(raw) < count and (piece := output.read(count - len(raw))):
        raw += piece
    return bytes(raw)
