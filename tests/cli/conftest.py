from __future__ import annotations

import shutil
import wave
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.runtime.tiny_bundle import BLUE, GREEN, RED
from vlj_edge.runtime.video.cameras.opencv import import_opencv

Colour = tuple[int, int, int]


def write_video(path: Path, scenes: Sequence[tuple[Colour, float]], rate: float = 10) -> Path:
    """A video of plain colours; each is one that tests/runtime/tiny_bundle.py has a text for."""
    cv2 = import_opencv()
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), rate, (64, 48))
    assert writer.isOpened()
    for colour, seconds in scenes:
        image = np.full((48, 64, 3), colour, np.uint8)
        for _ in range(round(seconds * rate)):
            writer.write(image)
    writer.release()
    return path


@pytest.fixture(scope="session")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds each of red, blue and green."""
    path = tmp_path_factory.mktemp("videos") / "colours.avi"
    return write_video(path, [(RED, 3), (BLUE, 3), (GREEN, 3)])


@pytest.fixture(scope="session")
def long_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """So long that its text with --every-window, over 130 kB, cannot hide in a pipe that nobody reads.

    A command that narrates it is certain to be running still when its first line is read.
    """
    path = tmp_path_factory.mktemp("videos") / "long.avi"
    return write_video(path, [(RED, 2), (BLUE, 2), (GREEN, 2)] * 125, rate=4)


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second of silence, no picture."""
    path = tmp_path_factory.mktemp("videos") / "sound.mp4"
    with wave.open(str(path), "wb") as stream:
        stream.setnchannels(1)
        stream.setsampwidth(2)
        stream.setframerate(8000)
        stream.writeframes(bytes(16000))
    return path


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
