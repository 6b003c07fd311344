"""What the tests of http sources serve: films in several containers, and JPEGs."""

from __future__ import annotations

import io
import shutil

import PIL.Image

FFMPEG = shutil.which("ffmpeg")
CONTAINERS = {
    "moov_last.mp4": [],
    "faststart.mp4": ["-movflags", "+faststart"],
    "fragmented.mp4": ["-movflags", "+frag_keyframe+empty_moov"],
    "live.mkv": ["-f", "matroska", "-live", "1"],
    "film.ts": [],
    "film.avi": [],
    "film.webm": ["-c:v", "libvpx"],
}
SECRET = "p@ss/w?rd% [1]:#\u00fc"


def jpeg(value: int, size: tuple[int, int] = (64, 48)) -> bytes:
    data = io.BytesIO()
    PIL.Image.new("RGB", size, (value, value, value)).save(data, "JPEG")
    return data.getvalue()
