"""Fixtures that more than one folder uses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from tests.runtime import tiny_bundle as by_hand
from vlj_edge.runtime.video.opencv import import_opencv

# The same examples every time, and no verdict that depends on how busy the machine is.
settings.register_profile("steady", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")

Colour = tuple[int, int, int]


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of tests/runtime/tiny_bundle.py, for reading only: its embeddings and texts are known by hand."""
    return by_hand.build(tmp_path_factory.mktemp("bundles") / "by-hand")


@pytest.fixture
def make_video(tmp_path: Path) -> Callable[..., Path]:
    """make_video([(colour BGR, seconds), ...], rate=25, name="video.mp4", size=(64, 48)) -> path of a video file."""

    def make(
        scenes: Sequence[tuple[Colour, float]],
        rate: float = 25,
        name: str = "video.mp4",
        size: tuple[int, int] = (64, 48),
    ) -> Path:
        cv2 = import_opencv()
        codec = cv2.VideoWriter_fourcc(*("MJPG" if name.endswith(".avi") else "mp4v"))
        writer = cv2.VideoWriter(str(tmp_path / name), codec, rate, size)
        assert writer.isOpened()
        for colour, seconds in scenes:
            for _ in range(round(seconds * rate)):
                writer.write(np.full((size[1], size[0], 3), colour, np.uint8))
        writer.release()
        return tmp_path / name

    return make
