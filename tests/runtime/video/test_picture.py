"""From a picture to an image as a player shows it."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest

from vlj_edge.runtime.video.decoding.picture import PictureConverter, _display_matrix, _displayed
from vlj_edge.runtime.video.source import Frame


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("entry", [2**31 - 1, -(2**31)])
def test_a_display_matrix_may_hold_any_numbers(entry: int) -> None:
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    step = 1 if entry > 0 else -1
    picture = SimpleNamespace(side_data={"DISPLAYMATRIX": np.full(9, entry, np.int32).tobytes()})
    matrix = _display_matrix(picture)
    assert matrix is not None
    assert (_displayed(image, matrix) == image[::step, ::step]).all()


def test_an_image_is_decoded_once_for_all_threads() -> None:
    decoded: list[int] = []

    def decode() -> np.ndarray[Any, Any]:
        decoded.append(1)
        time.sleep(0.05)
        return np.zeros((2, 2, 3), np.uint8)

    frame = Frame(0.0, decode)
    with ThreadPoolExecutor(8) as pool:
        images = list(pool.map(lambda _: frame.image, range(8)))
    assert len(decoded) == 1 and all(image is images[0] for image in images)


def test_no_thread_waits_for_another_that_converts() -> None:
    picture = av.VideoFrame.from_ndarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8), "bgr24")
    converter = PictureConverter()
    alone = converter.to_bgr(picture, 1.5)
    with converter._scaling, ThreadPoolExecutor(1) as pool:  # a page converts an older picture
        assert np.array_equal(pool.submit(converter.to_bgr, picture, 1.5).result(30), alone)
