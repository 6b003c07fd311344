"""Which pictures show a change, and the small copies that are kept of them."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from vlj_edge.runtime.video.preprocess import CroppedFrame
from vlj_edge.runtime.words.pictures import KeptPictures, choose_pictures, smaller


def pictures(*shades: int) -> list[np.ndarray]:
    return [np.full((60, 80, 3), shade, np.uint8) for shade in shades]


@pytest.mark.parametrize(
    ("shades", "count", "chosen"),
    [
        ((0, 1, 2, 100, 99, 98, 51, 50), 4, [0, 2, 3, 7]),
        ((0, 1, 2, 100, 99, 98, 51, 50), 3, [0, 3, 7]),
        ((0, 1, 2, 100, 99, 98, 51, 50), 2, [0, 7]),
        ((0, 1, 2, 100, 99, 98, 51, 50), 1, [7]),
        ((5, 5, 5, 5), 4, [3]),
        ((5, 5, 9, 9), 4, [0, 3]),
        ((9, 5, 9), 3, [1, 2]),  # the first is the same as the last
        ((1, 2, 3), 8, [0, 1, 2]),
        ((7,), 4, [0]),
    ],
)
def test_the_pictures_that_show_a_change_are_chosen(shades: tuple[int, ...], count: int, chosen: list[int]) -> None:
    assert choose_pictures(pictures(*shades), count) == chosen


@pytest.mark.parametrize(
    ("size", "longest", "made"),
    [
        ((1080, 1920), 512, (288, 512)),
        ((1920, 1080), 512, (512, 288)),
        ((60, 80), 512, (60, 80)),
        ((1, 900), 9, (1, 9)),
    ],
)
def test_pictures_are_made_smaller_and_keep_their_shape(
    size: tuple[int, int], longest: int, made: tuple[int, int]
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    found = smaller(image, longest)
    assert found.shape[:2] == made and found.dtype == np.uint8
    image[...] = 0
    assert found.any()  # a camera's buffer may be used again


def test_a_copy_is_kept_as_long_as_the_cropped_frame() -> None:
    def crop(image: np.ndarray) -> CroppedFrame:
        return CroppedFrame(np.zeros((3, 4, 4), np.uint8), np.zeros((32, 32), np.float32))

    kept = KeptPictures(40)
    frames = [kept.cropping(crop)(picture) for picture in pictures(10, 20)]
    assert [int(picture.mean()) for picture in kept.of(frames)] == [10, 20]
    assert kept.of(frames)[0].shape == (30, 40, 3)
    frames.clear()
    gc.collect()
    assert not kept._kept
