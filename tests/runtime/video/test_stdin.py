"""Frames on stdin: JPEGs and raw ones."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vlj_edge.runtime.video.opencv import import_opencv


def read_stdin(uri: str, data: bytes, tmp_path: Path) -> list[str]:
    program = f"""
from vlj_edge import VljEdgeError
from vlj_edge.runtime.video.uri import open_source
try:
    source = open_source({uri!r})
    for frame in source:
        print(round(frame.time, 3), frame.image.shape, *frame.image.mean((0, 1)).round().astype(int))
    print("bad", source.bad, "live", source.live)
except VljEdgeError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], input=data, capture_output=True, check=True)
    assert done.stderr == b""
    return done.stdout.decode().splitlines()


def jpeg(colour: tuple[int, int, int]) -> bytes:
    return bytes(import_opencv().imencode(".jpg", np.full((48, 64, 3), colour, np.uint8))[1])


@pytest.mark.parametrize("between", [b"", b"\r\n--boundary\r\nContent-Type: image/jpeg\r\n\r\n"])
def test_jpegs_on_stdin(tmp_path: Path, between: bytes) -> None:
    pictures = [jpeg((0, 0, 254)), jpeg((254, 0, 0)), jpeg((0, 254, 0))]
    damaged = pictures[1][:2] + b"\xff" + bytes(100) + b"\xff\xd9"
    lines = read_stdin("-?rate=4", between.join([*pictures[:2], damaged, pictures[2]]), tmp_path)
    assert [line.split(" ", 1)[0] for line in lines[:3]] == ["0.0", "0.25", "0.5"]
    assert lines[0].endswith("(48, 64, 3) 0 0 254") and lines[-1] == "bad 1 live False"
    assert read_stdin("-", pictures[0], tmp_path)[-1] == "bad 0 live True"


@pytest.mark.parametrize("form", ["bgr24", "rgb24", "gray", "yuv420p"])
def test_raw_frames_on_stdin(tmp_path: Path, form: str) -> None:
    cv2, image = import_opencv(), np.full((4, 6, 3), (10, 130, 250), np.uint8)
    raw = {
        "bgr24": image,
        "rgb24": image[..., ::-1],
        "gray": image[..., :1],
        "yuv420p": cv2.cvtColor(image, cv2.COLOR_BGR2YUV_I420),
    }[form].tobytes()
    lines = read_stdin(f"-?size=6x4&rate=10&format={form}", raw * 3 + raw[:5], tmp_path)
    assert [line.split(" ", 1)[0] for line in lines[:3]] == ["0.0", "0.1", "0.2"] and len(lines) == 4
    colours = [int(number) for number in re.findall(r"\d+", lines[0].partition(")")[2])]
    wanted = [10, 10, 10] if form == "gray" else [10, 130, 250]
    assert np.abs(np.subtract(colours, wanted)).max() <= 4


def test_nothing_on_stdin_is_one_line(tmp_path: Path) -> None:
    for data in (b"", b"text\n" * 50):
        assert "ffmpeg -i VIDEO" in read_stdin("-", data, tmp_path)[0]
