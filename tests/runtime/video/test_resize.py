"""Frames are resized as Pillow does it, whichever of the two libraries computes it."""

from __future__ import annotations

import importlib.util
import threading

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from vlj_edge.presets import Preprocess
from vlj_edge.runtime.video import preprocess, resize

NANO = Preprocess(96, 96, (0.5,) * 3, (0.5,) * 3)
_PILLOW = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
needs_fast = pytest.mark.skipif(importlib.util.find_spec("cykooz_resizer") is None, reason="no wheel for this platform")


def picture(height: int, width: int, kind: str, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if kind == "black and white":
        return (255 * rng.integers(0, 2, (height, width, 3))).astype(np.uint8)
    if kind == "stripes":
        return np.broadcast_to(255 * (np.arange(width)[None, :, None] // 3 % 2), (height, width, 3)).astype(np.uint8)
    return rng.integers(0, 256, (height, width, 3), np.uint8)


@needs_fast
@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    height=st.integers(1, 360),
    width=st.integers(1, 360),
    short=st.integers(20, 240),
    part=st.floats(0.7, 1),
    keep_aspect=st.booleans(),
    resample=st.sampled_from(("bilinear", "bicubic")),
    kind=st.sampled_from(("noise", "black and white", "stripes")),
)
@example(height=1080, width=1920, short=96, part=1, keep_aspect=True, resample="bilinear", kind="noise")
@example(height=2, width=1500, short=96, part=1, keep_aspect=True, resample="bilinear", kind="noise")
@example(height=576, width=768, short=292, part=256 / 292, keep_aspect=True, resample="bicubic", kind="noise")
def test_values_are_pillows_but_for_few_that_are_a_level_apart(
    height: int, width: int, short: int, part: float, keep_aspect: bool, resample: str, kind: str
) -> None:
    crop = max(1, int(short * part))
    kept = Preprocess(short, crop, (0.5,) * 3, (0.5,) * 3, keep_aspect=keep_aspect, resample=resample)
    image, box = picture(height, width, kind, seed=height), preprocess.crop_box(width, height, kept)
    found = resize.resize(image, box, crop, resample)
    # Rows, then columns: since 13, Pillow takes columns first if the picture is much taller than wide.
    narrow = Image.fromarray(image).resize((crop, height), _PILLOW[resample], (box[0], 0, box[2], height))
    expected = np.asarray(narrow.resize((crop, crop), _PILLOW[resample], (0, box[1], crop, box[3])))
    assert found.shape == (crop, crop, 3)
    assert found.dtype == np.uint8
    apart = np.abs(found.astype(int) - expected)
    assert apart.max() <= 2
    assert (apart > 1).sum() <= max(1, 1e-3 * apart.size)


@needs_fast
def test_a_view_of_a_larger_image_is_resized() -> None:
    image = picture(300, 400, "noise", 0)[::-1, 50:350]
    box = preprocess.crop_box(300, 300, NANO)
    whole = resize.resize(np.ascontiguousarray(image), box, 96, "bilinear")
    np.testing.assert_array_equal(resize.resize(image, box, 96, "bilinear"), whole)


def test_pillow_resizes_where_the_other_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "cykooz_resizer", None)
    resize._fast_image_resize.cache_clear()
    try:
        image = picture(480, 640, "noise", 0)
        expected = resize.resize_with_pillow(image, preprocess.crop_box(640, 480, NANO), 96, "bilinear")
        found = preprocess.crop_and_resize(image, NANO)
        np.testing.assert_array_equal(found.rgb, expected[:, :, ::-1].transpose(2, 0, 1))
    finally:
        resize._fast_image_resize.cache_clear()


def test_threads_resize_at_once() -> None:
    images = [picture(200, 300, "noise", seed) for seed in range(4)]
    box = preprocess.crop_box(300, 200, NANO)
    expected = [resize.resize(image, box, 96, "bilinear") for image in images]
    wrong: list[int] = []

    def work(number: int) -> None:
        for _ in range(20):
            if not np.array_equal(resize.resize(images[number], box, 96, "bilinear"), expected[number]):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
