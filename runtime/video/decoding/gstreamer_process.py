"""Decodes packets by GStreamer, in a process of its own: python gstreamer_process.py PIPELINE < PACKETS > PICTURES

GStreamer's plugins load libraries that conflict with those of the engines in one process. The pipeline has an appsrc
called packets and an appsink called pictures, of I420. Both directions are messages of a header and the number of
bytes that it states: time, time of decoding (int64, microseconds; -1: not known) and size (uint32) of a packet, size 0
at the end; time, width, height and size of a picture. Width 0 says that the bytes are an error's text.
"""

from __future__ import annotations

import struct
import sys
import threading
from typing import Any

PACKET = struct.Struct("<qqI")
PICTURE = struct.Struct("<qIII")


def main() -> None:
    """Decode until the end of stdin or of the stream."""
    output = sys.stdout.buffer
    try:
        _decode(sys.argv[1], output)
    except BrokenPipeError:
        pass
    except Exception as error:  # a driver may raise anything; the parent reports it
        text = str(error).encode()
        output.write(PICTURE.pack(0, 0, 0, len(text)) + text)
        output.flush()


def _decode(text: str, output: Any) -> None:
    import gi  # type: ignore[import-not-found, import-untyped, unused-ignore]

    gi.require_version("Gst", "1.0")
    gi.require_version("GstApp", "1.0")
    from gi.repository import Gst, GstApp  # type: ignore[import-not-found, unused-ignore]  # noqa: F401

    Gst.init(None)
    pipeline = Gst.parse_launch(text)
    pictures = pipeline.get_by_name("pictures")
    pipeline.set_state(Gst.State.PLAYING)
    threading.Thread(target=_push, args=(Gst, pipeline.get_by_name("packets")), daemon=True).start()
    while True:
        sample = pictures.try_pull_sample(100_000_000)
        if sample is None:
            failure = pipeline.get_bus().pop_filtered(Gst.MessageType.ERROR)
            if failure is not None:
                raise RuntimeError(failure.parse_error()[0].message.rstrip("."))
            if pictures.is_eos():
                break
            continue
        caps, buffer = sample.get_caps().get_structure(0), sample.get_buffer()
        raw = buffer.extract_dup(0, buffer.get_size())
        output.write(PICTURE.pack(buffer.pts // 1000, caps.get_value("width"), caps.get_value("height"), len(raw)))
        output.write(raw)
        output.flush()
    pipeline.set_state(Gst.State.NULL)


def _push(gst: Any, packets: Any) -> None:
    """Pass packets on from stdin. The queue has no limit, since the sender waits for pictures."""
    while len(header := sys.stdin.buffer.read(PACKET.size)) == PACKET.size:
        time, decoded_at, size = PACKET.unpack(header)
        if not size:
            break
        buffer = gst.Buffer.new_wrapped(sys.stdin.buffer.read(size))
        buffer.pts = time * 1000
        if decoded_at >= 0:
            buffer.dts = decoded_at * 1000
        packets.push_buffer(buffer)
    packets.end_of_stream()


if __name__ == "__main__":
    main()
