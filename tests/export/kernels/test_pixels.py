"""The pixel kernel's own source on the processor, against the runtime's path through Pillow and OpenCV."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.export.kernels import host
from vlj_edge.cuda import kernels
from vlj_edge.errors import VljEdgeError
from vlj_edge.presets import Preprocess, preset
from vlj_edge.runtime.video.preprocess import THUMBNAIL, CpuPreprocessor, crop_and_resize, crop_box

NANO, LARGE = preset("nano").preprocess, preset("vl-jepa-1.6b").preprocess


def norm(preprocess: Preprocess) -> np.ndarray:
    std, mean = (np.array(values, np.float32) for values in (preprocess.std, preprocess.mean))
    return np.concatenate((1 / (255 * std), -mean / std)).astype(np.float32)


def on_kernel(frame: np.ndarray, pixel_format: str, preprocess: Preprocess, dtype: str = "float32", seed: int = 0):
    """What the kernel makes of a frame: normalised, as bytes, and the thumbnail."""
    height = frame.shape[0] * 2 // 3 if pixel_format == "nv12" else frame.shape[0]
    width, stride = frame.shape[1], frame.nbytes // frame.shape[0]
    left, top, right, bottom = crop_box(width, height, preprocess)
    across = kernels.resize_weights(width, left, right, preprocess.crop)
    down = kernels.resize_weights(height, top, bottom, preprocess.crop)
    launch = kernels.pixels(pixel_format, dtype, stride=stride, height=height, across=across, down=down)
    given = np.zeros(frame.nbytes // 4 * 4 + 4, np.uint8)  # readable to the next multiple of 4
    given[: frame.nbytes] = frame.ravel()
    shape = (3, preprocess.crop, preprocess.crop)
    out, seen = np.full(shape, np.nan, dtype), np.zeros(shape, np.uint8)
    arguments = [given, across, down, norm(preprocess), *launch.integers, out, seen]
    host.start(launch.name, launch.grid, launch.threads, arguments, seed=seed)
    weights = kernels.resize_weights(preprocess.crop, 0, preprocess.crop, THUMBNAIL, box=True)
    launch = kernels.luminance(preprocess.crop, weights)
    cells = np.full((THUMBNAIL, THUMBNAIL), np.nan, np.float32)
    host.start(launch.name, launch.grid, launch.threads, [seen, weights, *launch.integers, cells])
    return out, seen, cells


def normalised(picture, preprocess: Preprocess, dtype: str) -> np.ndarray:
    pixels = np.zeros((1, 1, 3, preprocess.crop, preprocess.crop), dtype)
    CpuPreprocessor(pixels, preprocess).fill([picture])
    return pixels[0, 0]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    width=st.integers(20, 700),
    height=st.integers(20, 500),
    pixel_format=st.sampled_from(("bgr", "rgb", "nv12")),
    dtype=st.sampled_from(("float32", "float16")),
    smooth=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_any_frame_is_what_the_processors_path_makes_of_it(
    width: int, height: int, pixel_format: str, dtype: str, smooth: bool, seed: int
) -> None:
    if pixel_format == "nv12":
        width, height = width // 2 * 2, height // 2 * 2
    rng = np.random.default_rng(seed)
    shape = (height * 3 // 2, width) if pixel_format == "nv12" else (height, width, 3)
    frame = np.full(shape, seed % 256, np.uint8) if smooth else rng.integers(0, 256, shape, np.uint8)
    bgr = {
        "bgr": lambda: frame,
        "rgb": lambda: np.ascontiguousarray(frame[:, :, ::-1]),
        "nv12": lambda: cv2.cvtColor(frame, cv2.COLOR_YUV2BGR_NV12),
    }[pixel_format]()
    expected = crop_and_resize(bgr, NANO)
    out, seen, cells = on_kernel(frame, pixel_format, NANO, dtype, seed)
    if width >= height:
        np.testing.assert_array_equal(seen, expected.rgb)
        np.testing.assert_array_equal(out, normalised(expected, NANO, dtype))
    # Pillow 13 takes tall pictures in the other order, and each order rounds by itself.
    assert np.abs(seen.astype(int) - expected.rgb).max() <= 1
    assert np.abs(cells - expected.luminance).max() <= (1e-6 if width >= height else 1 / 255 + 1e-6)


def test_the_large_presets_picture() -> None:
    """Shrunk, cropped from the middle, normalised by channel."""
    frame = np.random.default_rng(0).integers(0, 256, (480, 854, 3), np.uint8)
    expected = crop_and_resize(frame, LARGE)
    out, seen, _ = on_kernel(frame, "bgr", LARGE, "float16")
    np.testing.assert_array_equal(seen, expected.rgb)
    np.testing.assert_array_equal(out, normalised(expected, LARGE, "float16"))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    source=st.integers(2, 900),
    size=st.integers(2, 100),
    first=st.floats(0, 0.4),
    last=st.floats(0.6, 1),
    box=st.booleans(),
)
def test_weights_are_pillows(source: int, size: int, first: float, last: float, box: bool) -> None:
    """One row of grey, which Pillow resizes in one direction alone."""
    begin, end = first * source, last * source
    if (end - begin) / size > 30:
        return
    table = kernels.resize_weights(source, begin, end, size, box)
    row = np.random.default_rng(source).integers(0, 256, (1, source), np.uint8)
    kind = Image.Resampling.BOX if box else Image.Resampling.BILINEAR
    expected = np.asarray(Image.fromarray(row).resize((size, 1), kind, box=(begin, 0, end, 1)))[0]
    sums = [int(row[0, at : at + count].astype(np.int64) @ weights[:count]) for at, count, *weights in table.tolist()]
    got = [min(max((total + (1 << 21)) >> 22, 0), 255) for total in sums]
    np.testing.assert_array_equal(got, expected)


def test_a_frame_far_too_large_and_other_things_it_does_not_serve() -> None:
    with pytest.raises(VljEdgeError, match="scale the camera down"):
        kernels.resize_weights(8000, 0, 8000, 96)
    weights = kernels.resize_weights(96, 0, 96, 96)
    for wanted, says in (
        (("yuyv", "float32", 96, 96), "bgr, rgb and nv12"),
        (("bgr", "bfloat16", 288, 96), "float32 and float16"),
        (("nv12", "float32", 96, 95), "even width"),
        (("bgr", "float32", 0, 96), "is none"),
    ):
        pixel_format, dtype, stride, height = wanted
        with pytest.raises(VljEdgeError, match=says):
            kernels.pixels(pixel_format, dtype, stride=stride, height=height, across=weights, down=weights)


def test_a_crop_that_no_tile_divides() -> None:
    odd = dataclasses.replace(NANO, short_side=53, crop=49)
    frame = np.random.default_rng(1).integers(0, 256, (101, 203, 3), np.uint8)
    out, seen, _ = on_kernel(frame, "bgr", odd)
    np.testing.assert_array_equal(seen, crop_and_resize(frame, odd).rgb)
    assert np.isfinite(out).all()
