"""The address of a live source, for the process that reads it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ..decoding.picture_decoder import DecoderChoice


@dataclass(frozen=True)
class CameraAddress:
    """The source that a reader process opens.

    Attributes:
        shown: the address without credentials, for messages.
        place: a URL; for OpenCV the first argument of its VideoCapture.
        reader: "ffmpeg" for rtsp, rtmp, srt, udp and rtp, "http", "opencv", or "file" for one of a stranger.
        backend: OpenCV's video backend: V4L2 or GSTREAMER.
        settings: requested settings of a webcam, in this order: format (four letters), width, height (pixels), fps.
        decoder: of "ffmpeg" and "http", see PictureDecoder.
        remedy: advice for the error when it gives no frame.
    """

    shown: str
    place: str | int = field(repr=False)
    reader: Literal["ffmpeg", "http", "opencv", "file"] = "opencv"
    backend: Literal["V4L2", "GSTREAMER"] = "V4L2"
    settings: dict[str, float | str] = field(default_factory=dict)
    decoder: DecoderChoice = "auto"
    remedy: str = "check that it is there"
