"""What ffprobe and ffmpeg find in a video file: the frames' times, their sizes as shown, and their images."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

# Whole frames from fields, where a frame is made of fields.
DEINTERLACE = "bwdif=mode=send_frame:deint=interlaced"


@dataclass(frozen=True)
class Reference:
    """The frames of a file as a player shows them.

    Attributes:
        times: seconds from the container's start; NaN where the file has none.
        sizes: (width, height) of each in square pixels, upright.
        images: uint8 [frames, height, width, 3], BGR, all in the size of the first.
    """

    times: npt.NDArray[np.float64]
    sizes: list[tuple[int, int]]
    images: npt.NDArray[np.uint8]


def reference(path: Path) -> Reference:
    """Return what ffprobe and ffmpeg find in the stream of pictures that is marked as the default, or the first."""
    found = probe(path, "-show_streams", "-show_format", "-show_frames", "-select_streams", "v")
    streams = [s for s in found["streams"] if s["codec_type"] == "video" and not s["disposition"]["attached_pic"]]
    stream = max(streams, key=lambda s: int(s["disposition"]["default"]))
    index = stream["index"]
    frames = [frame for frame in found["frames"] if frame["stream_index"] == index]
    start = float(found["format"].get("start_time", 0))
    times = [float(frame.get("best_effort_timestamp_time", "nan")) - start for frame in frames]
    sizes = [_size(stream, frame) for frame in frames]
    width, height = sizes[0]
    filters = f"scale={width}:{height}:flags=bicubic"
    if any(frame["interlaced_frame"] for frame in frames):
        filters = f"{DEINTERLACE},{filters}"
    output = ["-vf", filters, "-vsync", "passthrough", "-pix_fmt", "bgr24", "-f", "rawvideo", "-"]
    command = ["ffmpeg", "-v", "quiet", "-nostdin", "-i", f"file:{path}", "-map", f"0:{index}", *output]
    raw = subprocess.run(command, capture_output=True, check=True).stdout
    return Reference(np.array(times), sizes, np.frombuffer(raw, np.uint8).reshape(-1, height, width, 3))


def probe(path: Path, *arguments: str) -> Any:
    """Return what ffprobe says of a file."""
    command = ["ffprobe", "-v", "quiet", "-of", "json", *arguments, f"file:{path}"]
    return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)


def _size(stream: Any, frame: Any) -> tuple[int, int]:
    aspect = frame.get("sample_aspect_ratio") or stream.get("sample_aspect_ratio") or "1:1"
    across, _, down = aspect.partition(":")
    width, height = frame["width"], frame["height"]
    if int(across) and int(down):
        width = round(width * int(across) / int(down))
    rotation = [side["rotation"] for side in stream.get("side_data_list", []) if "rotation" in side]
    return (height, width) if rotation and rotation[0] % 180 else (width, height)
