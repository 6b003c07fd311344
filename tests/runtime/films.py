"""What ffprobe and PyAV, neither of them ours, say of a video."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest

needs_ffmpeg = pytest.mark.skipif(not shutil.which("ffmpeg"), reason="needs the programs ffmpeg and ffprobe")


def ffmpeg(path: Path, *arguments: str) -> Path:
    """Make a file."""
    subprocess.run(["ffmpeg", "-v", "error", "-y", *arguments, str(path)], check=True)
    return path


def probe(path: Path) -> dict[str, dict[str, Any]]:
    """Return ffprobe's description of the streams, by their kind."""
    command = ["ffprobe", "-v", "error", "-of", "json", "-show_streams", str(path)]
    found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return {stream["codec_type"]: stream for stream in found["streams"]}


def times(path: Path) -> list[float]:
    """Return when ffprobe says that the pictures are shown, seconds."""
    command = ["ffprobe", "-v", "error", "-select_streams", "v", "-of", "csv=p=0", "-show_entries", "frame=pts_time"]
    lines = subprocess.run([*command, str(path)], check=True, capture_output=True, text=True).stdout.split()
    return [float(line.strip(",")) for line in lines]


def pictures(path: Path) -> list[npt.NDArray[np.uint8]]:
    """Return the pictures, uint8 [height, width, 3], BGR."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]


def loudness(path: Path, step: float = 0.05) -> npt.NDArray[np.float64]:
    """Return the largest amplitude in each `step` seconds, as ffmpeg decodes the sound, from time 0 on."""
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-vn", "-af", "aresample=8000:async=1:first_pts=0"]
    raw = subprocess.run([*command, "-ac", "1", "-f", "f32le", "-"], check=True, capture_output=True).stdout
    samples = np.frombuffer(raw, np.float32)
    count = int(8000 * step)
    return np.array([np.abs(samples[at : at + count]).max() for at in range(0, len(samples), count)])
