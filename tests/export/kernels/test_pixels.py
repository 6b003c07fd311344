"""The pixel kernels' own source on the CPU, compared with the runtime's preprocessing by Pillow and OpenCV."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.export.kernels import host
from vlj_edge.cuda import pixels
from vlj_edge.errors import VljEdgeError
from vlj_edge.presets import Preprocess, preset
from vlj_edge.runtime.video import preprocess as cpu
from vlj_edge.runtime.video.preprocess import (
    THUMBNAIL,
    CpuPreprocessor,
    CroppedFrame,
    crop_and_resize,
    crop_box,
    normalisation,
)
from vlj_edge.runtime.video.resize import resize_with_pillow

NANO, LARGE = preset("nano").preprocess, preset("vl-jepa-1.6b").preprocess


@pytest.fixture(autouse=True, scope="module")
def pillow_resizes() -> Iterator[None]:
    """The kernels compute with Pillow's own arithmetic, which is not always what resizes on a CPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cpu, "resize", resize_with_pillow)
        yield


def run(
    frame: np.ndarray, pixel_format: str, preprocess: Preprocess, dtype: str = "float32", seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Run the pixel kernel and the thumbnail's on a frame.

    Returns:
        The normalised pixels [3, crop, crop], the same as bytes, and the luminance [THUMBNAIL, THUMBNAIL].
    """
    height = frame.shape[0] * 2 // 3 if pixel_format == "nv12" else frame.shape[0]
    width, stride = frame.shape[1], frame.nbytes // frame.shape[0]
    left, top, right, bottom = crop_box(width, height, preprocess)
    across = pixels.resize_weights(width, left, right, preprocess.crop)
    down = pixels.resize_weights(height, top, bottom, preprocess.crop)
    launch = pixels.pixels_launch(pixel_format, dtype, stride=stride, height=height, across=across, down=down)
    padded = np.zeros(launch.input_bytes[0], np.uint8)
    padded[: frame.nbytes] = frame.ravel()
    shape = (3, preprocess.crop, preprocess.crop)
    out, as_bytes = np.full(shape, np.nan, dtype), np.zeros(shape, np.uint8)
    arguments = [padded, across, down, normalisation(preprocess), *launch.integers, out, as_bytes]
    host.start(launch.name, launch.grid, launch.threads, arguments, seed=seed)
    weights = pixels.resize_weights(preprocess.crop, 0, preprocess.crop, THUMBNAIL, box=True)
    launch = pixels.luminance_launch(preprocess.crop, weights)
    cells = np.full((THUMBNAIL, THUMBNAIL), np.nan, np.float32)
    host.start(launch.name, launch.grid, launch.threads, [as_bytes, weights, *launch.integers, cells])
    return out, as_bytes, cells


def normalised(frame: CroppedFrame, preprocess: Preprocess, dtype: str) -> np.ndarray:
    clip = np.zeros((1, 1, 3, preprocess.crop, preprocess.crop), dtype)
    CpuPreprocessor(clip, preprocess).fill([frame])
    return clip[0, 0]


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    width=st.integers(20, 700),
    height=st.integers(20, 500),
    pixel_format=st.sampled_from(("bgr", "nv12")),
    dtype=st.sampled_from(("float32", "float16")),
    smooth=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_any_frame_equals_the_cpu_path(
    width: int, height: int, pixel_format: str, dtype: str, smooth: bool, seed: int
) -> None:
    if pixel_format == "nv12":
        width, height = width // 2 * 2, height // 2 * 2
    rng = np.random.default_rng(seed)
    shape = (height * 3 // 2, width) if pixel_format == "nv12" else (height, width, 3)
    frame = np.full(shape, seed % 256, np.uint8) if smooth else rng.integers(0, 256, shape, np.uint8)
    bgr = cv2.cvtColor(frame, cv2.COLOR_YUV2BGR_NV12) if pixel_format == "nv12" else frame
    expected = crop_and_resize(bgr, NANO)
    out, as_bytes, cells = run(frame, pixel_format, NANO, dtype, seed)
    if width >= height:
        np.testing.assert_array_equal(as_bytes, expected.rgb)
        np.testing.assert_array_equal(out, normalised(expected, NANO, dtype))
    # Frames that are taller than wide: Pillow 13 resizes columns first, which rounds differently.
    assert np.abs(as_bytes.astype(int) - expected.rgb).max() <= 1
    assert np.abs(cells - expected.luminance).max() <= (1e-6 if width >= height else 1 / 255 + 1e-6)


def test_the_large_presets_preprocessing() -> None:
    """Downscaled, cropped at the centre, normalised per channel."""
    frame = np.random.default_rng(0).integers(0, 256, (480, 854, 3), np.uint8)
    expected = crop_and_resize(frame, LARGE)
    out, as_bytes, _ = run(frame, "bgr", LARGE, "float16")
    np.testing.assert_array_equal(as_bytes, expected.rgb)
    np.testing.assert_array_equal(out, normalised(expected, LARGE, "float16"))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    source=st.integers(2, 900),
    size=st.integers(2, 100),
    first=st.floats(0, 0.4),
    last=st.floats(0.6, 1),
    box=st.booleans(),
)
def test_weights_equal_pillows(source: int, size: int, first: float, last: float, box: bool) -> None:
    """One grey row, which Pillow resizes in one direction only."""
    begin, end = first * source, last * source
    if (end - begin) / size > 30:
        return
    table = pixels.resize_weights(source, begin, end, size, box)
    row = np.random.default_rng(source).integers(0, 256, (1, source), np.uint8)
    kind = Image.Resampling.BOX if box else Image.Resampling.BILINEAR
    expected = np.asarray(Image.fromarray(row).resize((size, 1), kind, box=(begin, 0, end, 1)))[0]
    sums = [int(row[0, at : at + count].astype(np.int64) @ weights[:count]) for at, count, *weights in table.tolist()]
    got = [min(max((total + (1 << 21)) >> 22, 0), 255) for total in sums]
    np.testing.assert_array_equal(got, expected)


def test_unsupported_frames_are_errors() -> None:
    with pytest.raises(VljEdgeError, match="8000 pixels"):
        pixels.resize_weights(8000, 0, 8000, 96)
    weights = pixels.resize_weights(96, 0, 96, 96)
    for pixel_format, dtype, stride, height, match in (
        ("rgb", "float32", 288, 96, "rgb"),
        ("bgr", "bfloat16", 288, 96, "bfloat16"),
        ("nv12", "float32", 96, 95, "even"),
        ("bgr", "float32", 0, 96, "96 rows of 0 bytes"),
    ):
        with pytest.raises(VljEdgeError, match=match):
            pixels.pixels_launch(pixel_format, dtype, stride=stride, height=height, across=weights, down=weights)


def test_a_crop_that_no_tile_divides() -> None:
    odd = dataclasses.replace(NANO, short_side=53, crop=49)
    frame = np.random.default_rng(1).integers(0, 256, (101, 203, 3), np.uint8)
    out, as_bytes, _ = run(frame, "bgr", odd)
    np.testing.assert_array_equal(as_bytes, crop_and_resize(frame, odd).rgb)
    assert np.isfinite(out).all()
