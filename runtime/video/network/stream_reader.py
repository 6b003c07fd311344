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
from ..decoding.pyav import MOST_PIXELS, UnreadableError, import_av, open_container, picture_stream
from .address import STREAM_PROTOCOLS, NetworkAddress
from .http_body import HttpBody
from .http_source import open_http
from .mjpeg import read_mjpeg
from .snapshots import read_snapshots

# FFmpeg analyses packets of a stream before it returns them; none is lost. (fflags=nobuffer would discard them, and
# with them the first key frame: the next may be 16 s away.)
_PROBE_SECONDS = {"fpsprobesize": "0", "analyzeduration": "3000000"}
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
_LONGEST_SLEEP = 4.0  # seconds; a picture that is further ahead has times on a new clock


def read_stream(address: NetworkAddress, output: ReaderOutput, choice: DecoderChoice = "auto") -> None:
    """Read rtsp, rtmp, srt, udp and rtp until the stream ends.

    Raises:
        VljEdgeError: it cannot be opened, holds no pictures, or this FFmpeg lacks its protocol.
    """
    scheme = address.url.partition("://")[0]
    options = _PROBE_SECONDS | _OPTIONS[scheme] | {"protocol_whitelist": STREAM_PROTOCOLS[scheme]}
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
    """Read the content of an http address until it ends: MJPEG, snapshots, HLS; a recording in real time, once.

    Args:
        polled: minimum seconds between two requests for a snapshot.

    Raises:
        OSError, VljEdgeError: it cannot be opened, or holds no pictures.
    """
    content = open_http(address)
    if content.kind == "snapshot":
        content.place.close()
        read_snapshots(address, output, polled)
        return
    if content.kind == "mjpeg" and isinstance(content.place, HttpBody):
        read_mjpeg(content.place, output)
        return
    _publish(open_container(content.place, address.shown), address.shown, output, choice, Pace())
    if content.kind == "recording":
        output.send("finished")


class Pace:
    """Delays pictures that arrive in bursts, such as HLS segments, so that each passes at its time."""

    def __init__(self) -> None:
        self._origin: float | None = None

    def wait(self, seconds: float) -> None:
        """Wait until the picture with this time, seconds, is due. A late picture delays those after it."""
        now = time.monotonic()
        wait_seconds = 0.0 if self._origin is None else self._origin + seconds - now
        if 0 < wait_seconds < _LONGEST_SLEEP:
            time.sleep(wait_seconds)
        else:
            self._origin = now - seconds


def _publish(container: Any, shown: str, output: ReaderOutput, choice: DecoderChoice, pace: Pace | None = None) -> None:
    """Decode, convert and publish the pictures that are due."""
    stream = picture_stream(container, shown)
    codec = stream.codec_context
    codec.thread_type, codec.thread_count = "SLICE", 0  # frame threads would add delay
    codec.options = {"max_pixels": str(MOST_PIXELS)}
    codec.flags |= import_av().codec.context.Flags.low_delay
    decoder = PictureDecoder(stream, shown, choice, lambda line: _warn(output, line))
    convert, decoder_name = PictureConverter(lambda: decoder.like).to_bgr, None
    output.send(f"open {float(stream.average_rate or stream.guessed_rate or 0)}")

    def is_early() -> bool:
        return pace is None and not output.is_due(time.monotonic() + output.every / 2)

    for picture in _pictures(container, stream, decoder, output, is_early):
        if decoder.name != decoder_name:
            decoder_name = decoder.name
            output.send(f"decoder {decoder_name}")
        if pace is not None and picture.time is not None:
            pace.wait(float(picture.time))
        now = time.monotonic()
        if not output.is_due(now):
            continue
        # only the decoder knows it if the stream began without a key frame
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
    # FFmpeg's H.264 decoder returns only complete pictures, so it may start without a key frame
    has_key_frame = codec.name == "h264"
    for packet in _packets(container):
        if packet.stream_index != stream.index:
            continue
        output.packet_came()
        has_key_frame = has_key_frame or packet.is_keyframe
        decoder.context.skip_frame = "NONREF" if deinterlacer is None and can_skip() else "DEFAULT"
        try:
            pictures = decoder.decode(packet)
        except error.InvalidDataError:
            if has_key_frame:  # before a key frame, errors are normal
                output.count_bad()
            continue
        for picture in pictures:
            has_key_frame = has_key_frame or picture.key_frame
            if picture.is_corrupt or not has_key_frame:
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
