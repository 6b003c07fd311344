"""Reads a live network stream in the reader process, by PyAV: from the first key frame on, with little delay."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from vlj_edge.errors import VljEdgeError

from ..cameras.reader_output import ReaderOutput
from ..decoding.deinterlace import Deinterlacer
from ..decoding.picture import PictureConverter
from ..decoding.picture_decoder import DecoderChoice, PictureDecoder
from ..decoding.pyav import UnreadableError, import_av, open_container, picture_stream
from .address import STREAM_PROTOCOLS, NetworkAddress
from .http_body import HttpBody
from .http_source import ask
from .mjpeg import read_mjpeg
from .snapshots import read_snapshots

# FFmpeg looks at a stream before it gives packets; these are kept, and none is lost. (fflags=nobuffer would throw them
# away, and with them the first key frame: the next may be 16 s away.)
_LOOK = {"fpsprobesize": "0", "analyzeduration": "3000000"}
_SILENCE = "8000000"  # microseconds without a packet after which the stream counts as lost
# TCP, because a packet lost by UDP damages the picture.
_RTSP = {"rtsp_transport": "tcp", "timeout": _SILENCE}
_OPTIONS = {
    "rtsp": _RTSP,
    "rtsps": _RTSP,
    "rtmp": {"rw_timeout": _SILENCE},
    "rtmps": {"rw_timeout": _SILENCE},
    "rtmpt": {"rw_timeout": _SILENCE},
    "srt": {"timeout": _SILENCE, "connect_timeout": "8000"},
    "udp": {"timeout": _SILENCE, "overrun_nonfatal": "1", "fifo_size": "50000"},
    "rtp": {"timeout": _SILENCE},
}
_LONGEST_SLEEP = 4.0  # seconds; what is further ahead has other times than what came before


def read_stream(address: NetworkAddress, output: ReaderOutput, choice: DecoderChoice = "auto") -> None:
    """Read rtsp, rtmp, srt, udp and rtp until the stream ends.

    Raises:
        VljEdgeError: it cannot be opened, holds no pictures, or this FFmpeg lacks its protocol.
    """
    scheme = address.url.partition("://")[0]
    options = _LOOK | _OPTIONS[scheme] | {"protocol_whitelist": STREAM_PROTOCOLS[scheme]}
    try:
        container = open_container(address.with_credentials(), address.shown, options)
    except UnreadableError as error:
        if error.protocol_missing:
            raise VljEdgeError(
                f"{address.shown} cannot be read: PyAV's FFmpeg has no {scheme}. Let another one pass it on: ffmpeg -i"
                f" {scheme}://... -c copy -f mpegts udp://127.0.0.1:5000, and give udp://127.0.0.1:5000"
            ) from None
        raise
    _publish(container, address.shown, output, choice)


def read_http(address: NetworkAddress, output: ReaderOutput, polled: float, choice: DecoderChoice = "auto") -> None:
    """Read what one GET finds until it ends: MJPEG, snapshots, HLS; a recording in real time, once.

    Args:
        polled: seconds between two requests for a snapshot at least.

    Raises:
        OSError, VljEdgeError: it cannot be opened, or holds no pictures.
    """
    answer = ask(address)
    if answer.kind == "snapshot":
        answer.place.close()
        read_snapshots(address, output, polled)
        return
    if answer.kind == "mjpeg" and isinstance(answer.place, HttpBody):
        read_mjpeg(answer.place, output)
        return
    _publish(open_container(answer.place, address.shown), address.shown, output, choice, Pace())
    if answer.kind == "recording":
        output.send("finished")


class Pace:
    """Lets pictures that arrive in bursts, as the segments of HLS do, pass one after the other by their times."""

    def __init__(self) -> None:
        self._origin: float | None = None

    def wait(self, seconds: float) -> None:
        """Wait until the picture with this time, seconds, is due. A picture that is late moves those after it."""
        now = time.monotonic()
        early = 0.0 if self._origin is None else self._origin + seconds - now
        if 0 < early < _LONGEST_SLEEP:
            time.sleep(early)
        else:
            self._origin = now - seconds


def _publish(container: Any, shown: str, output: ReaderOutput, choice: DecoderChoice, pace: Pace | None = None) -> None:
    """Decode, convert and publish the pictures that are due."""
    stream = picture_stream(container, shown)
    codec = stream.codec_context
    codec.thread_type, codec.thread_count = "SLICE", 0  # threads for frames would delay them
    codec.flags |= import_av().codec.context.Flags.low_delay
    decoder = PictureDecoder(stream, shown, choice, lambda line: _warn(output, line))
    convert, told = PictureConverter(lambda: decoder.like).to_bgr, None
    output.send(f"open {float(stream.average_rate or stream.guessed_rate or 0)}")

    def is_early() -> bool:
        return pace is None and not output.is_due(time.monotonic() + output.every / 2)

    for picture in _pictures(container, stream, decoder, output, is_early):
        if decoder.name != told:
            told = decoder.name
            output.send(f"decoder {told}")
        if pace is not None and picture.time is not None:
            pace.wait(float(picture.time))
        now = time.monotonic()
        if not output.is_due(now):
            continue
        # of a stream that began without a key frame, only the decoder knows it
        aspect = float(decoder.context.sample_aspect_ratio or stream.sample_aspect_ratio or 1)
        if not output.publish(now, convert(picture, aspect)):
            return


def _warn(output: ReaderOutput, line: str) -> None:
    output.send(f"warning {line}")


def _pictures(
    container: Any, stream: Any, decoder: PictureDecoder, output: ReaderOutput, can_skip: Callable[[], bool]
) -> Iterator[Any]:
    """Yield progressive pictures from the first key frame on."""
    error, codec = import_av().error, stream.codec_context
    deinterlacer: Deinterlacer | None = None
    # FFmpeg's decoder of H.264 holds pictures back until they are whole, which may be without a key frame
    begun = codec.name == "h264"
    for packet in _packets(container):
        if packet.stream_index != stream.index:
            continue
        output.packet_came()
        begun = begun or packet.is_keyframe
        decoder.context.skip_frame = "NONREF" if deinterlacer is None and can_skip() else "DEFAULT"
        try:
            pictures = decoder.decode(packet)
        except error.InvalidDataError:
            if begun:  # before, a decoder has nothing to build on
                output.count_bad()
            continue
        for picture in pictures:
            begun = begun or picture.key_frame
            if picture.is_corrupt or not begun:
                continue
            if deinterlacer is None and picture.interlaced_frame:
                deinterlacer = Deinterlacer()
            yield from [picture] if deinterlacer is None else deinterlacer.pictures(picture)


def _packets(container: Any) -> Iterator[Any]:
    """Yield packets until the stream ends or the connection breaks."""
    av, bad = import_av(), 0
    while bad < 100:  # in a row
        try:
            for packet in container.demux():
                bad = 0
                if packet.size:
                    yield packet
            return
        except av.error.InvalidDataError:
            bad += 1
        except (av.error.FFmpegError, OSError):
            return
