"""Frames that a program already has, as a source."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vlj_edge
from tests.runtime.tiny_bundle import BLUE, RED
from vlj_edge.runtime.video.arrays import to_source

RATE = 4.0


class OnDevice:
    """What CuPy's arrays look like from outside."""

    __cuda_array_interface__: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self, array: np.ndarray) -> None:
        self._array = array

    def get(self) -> np.ndarray:
        return self._array


@pytest.fixture
def recording(make_video: Callable[..., Path]) -> Path:
    return make_video([(RED, 4), (BLUE, 4)], rate=RATE)


def read(path: Path) -> list[tuple[float, np.ndarray]]:
    with vlj_edge.open_source(path) as source:
        return [(frame.time, frame.image) for frame in source]


def as_generator(pairs: list[tuple[float, np.ndarray]]) -> Iterator[tuple[float, np.ndarray]]:
    yield from pairs


@pytest.mark.parametrize(
    "given",
    [
        lambda pairs: np.stack([image for _, image in pairs]),
        lambda pairs: OnDevice(np.stack([image for _, image in pairs])),
        list,
        as_generator,
        lambda pairs: ((np.float32(time), OnDevice(image)) for time, image in pairs),
        lambda pairs: ([time, image] for time, image in pairs),
    ],
)
def test_frames_are_embedded_as_the_file_they_are_from(given: Any, recording: Path, tiny_bundle: Path) -> None:
    with vlj_edge.load(tiny_bundle) as model:
        expected = [(item.window, item.embedding) for item in model.embed(recording, every_window=True)]
        found = [(item.window, item.embedding) for item in model.embed(given(read(recording)), every_window=True)]
    assert len(expected) > 5
    assert [window for window, _ in found] == [window for window, _ in expected]
    np.testing.assert_array_equal([vector for _, vector in found], [vector for _, vector in expected])


@pytest.mark.parametrize("wrong", [None, 1.5, {"a": 1}, b"x", object(), np.zeros((3, 3)), {1, 2}])
def test_what_is_no_source_is_a_type_error_of_one_line(wrong: Any, tiny_bundle: Path) -> None:
    with vlj_edge.load(tiny_bundle) as model, pytest.raises(TypeError) as raised:
        model.narrate(wrong)
    assert "[frames, height, width, 3]" in str(raised.value) or "(seconds, image)" in str(raised.value)
    assert "\n" not in str(raised.value)


IMAGE = np.zeros((8, 8, 3), np.uint8)


@pytest.mark.parametrize(
    "pairs",
    [
        [IMAGE],
        [(0.0, IMAGE), (1.0,)],
        [(0.0, IMAGE), ("soon", IMAGE)],
        [(float("nan"), IMAGE)],
        [(0.0, "image.png")],
        [(0.0, IMAGE.astype(np.float32))],
        [(0.0, IMAGE[..., 0])],
        [(0.0, np.zeros((8, 8, 4), np.uint8))],
        [(0.0, np.zeros((0, 8, 3), np.uint8))],
        [(1.0, IMAGE), (0.5, IMAGE)],
    ],
)
def test_what_is_no_frame_is_a_type_error_of_one_line(pairs: list[Any], tiny_bundle: Path) -> None:
    with vlj_edge.load(tiny_bundle) as model, pytest.raises(TypeError) as raised:
        list(model.embed(pairs))
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 200


def test_a_generator_is_closed_when_the_run_is_left(tiny_bundle: Path) -> None:
    closed: list[bool] = []

    def endless() -> Iterator[tuple[float, np.ndarray]]:
        try:
            number = 0
            while True:
                yield number / RATE, IMAGE
                number += 1
        finally:
            closed.append(True)

    with vlj_edge.load(tiny_bundle) as model:
        for _ in model.embed(endless()):
            break
    assert closed == [True]


def test_a_source_is_one_pass(model: vlj_edge.Model, recording: Path) -> None:
    """A second pass would give nothing, and nobody would know why."""
    frames = to_source(as_generator(read(recording)), RATE)
    for source in (vlj_edge.open_source(recording), frames):
        assert sum(1 for _ in source) > 4
        with pytest.raises(vlj_edge.VljEdgeError, match="open it again"):
            iter(source)
        with pytest.raises(vlj_edge.VljEdgeError, match="open it again"):
            list(model.embed(source))
