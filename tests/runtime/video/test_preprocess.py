from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from vlj_edge.presets import Preprocess
from vlj_edge.runtime.video.preprocess import CpuPreprocessor, CroppedFrame, crop_and_resize, crop_box

NANO = Preprocess(96, 96, (127 / 255,) * 3, (128 / 255,) * 3)
LARGE = Preprocess(292, 256, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def smooth_frame(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Random, with detail at every scale: smooth structure and pixel noise."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (7, 9, 3), dtype=np.uint8)).resize((width, height))
    noise = rng.integers(-30, 31, (height, width, 3))
    return np.clip(np.asarray(coarse).astype(int) + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("preprocess", [NANO, LARGE], ids=["nano", "large"])
@pytest.mark.parametrize("height, width", [(480, 640), (1080, 1920), (853, 479), (96, 96), (70, 131), (1001, 333)])
def test_resize_and_crop_are_those_of_torch(height: int, width: int, preprocess: Preprocess) -> None:
    torch = pytest.importorskip("torch")
    frame = smooth_frame(height, width)
    short = preprocess.short_side
    size = (short, int(short * width / height)) if width >= height else (int(short * height / width), short)
    rgb = torch.from_numpy(frame[:, :, ::-1].copy()).permute(2, 0, 1)[None].float()
    resized = torch.nn.functional.interpolate(rgb, size, mode="bilinear", antialias=True, align_corners=False)
    top, left = (round((side - preprocess.crop) / 2) for side in size)
    wanted = resized[0, :, top : top + preprocess.crop, left : left + preprocess.crop].numpy()
    found = crop_and_resize(frame, preprocess).rgb
    assert found.dtype == np.uint8
    assert np.abs(found - wanted).max() <= 1.5  # of 255: Pillow rounds to 8 bits after each of its two passes


@pytest.mark.parametrize("height, width", [(480, 640), (1920, 1080), (31, 30)])
def test_crop_stays_inside_the_frame(height: int, width: int) -> None:
    left, top, right, bottom = crop_box(width, height, LARGE)
    assert left >= 0
    assert top >= 0
    assert right <= width
    assert bottom <= height


@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 1e-6), (np.float16, 2e-3)])
def test_pixels_are_normalised_rgb(dtype: type, tolerance: float) -> None:
    pixels: np.ndarray = np.zeros((1, 2, 3, 256, 256), dtype)
    frame = np.zeros((300, 300, 3), np.uint8)
    frame[:] = (10, 100, 250)  # BGR
    picture = crop_and_resize(frame, LARGE)
    CpuPreprocessor(pixels, LARGE).fill([picture, picture])
    wanted = (np.array([250, 100, 10]) / 255 - LARGE.mean) / LARGE.std
    np.testing.assert_allclose(pixels[0, 1].transpose(1, 2, 0), np.broadcast_to(wanted, (256, 256, 3)), atol=tolerance)


def test_thumbnail_is_luminance() -> None:
    frame = np.zeros((96, 96, 3), np.uint8)
    frame[:48] = (255, 0, 0)  # blue above
    frame[48:] = (0, 255, 0)  # green below
    luminance = crop_and_resize(frame, NANO).luminance
    assert luminance.shape == (32, 32)
    np.testing.assert_allclose(luminance[:16], 0.114, atol=1e-3)
    np.testing.assert_allclose(luminance[16:], 0.587, atol=1e-3)


@pytest.mark.parametrize("steps", [[1, 1, 3], [2, 5, 2], [4, 9], [0, 2, 0, 1]], ids=str)
def test_moved_slots_equal_newly_normalised_ones(steps: list[int]) -> None:
    frames, crop = 4, NANO.crop
    pictures = [crop_and_resize(smooth_frame(100, 120, seed), NANO) for seed in range(20)]
    pixels = CpuPreprocessor(moved := np.zeros((1, frames, 3, crop, crop), np.float32), NANO)
    start = 0
    for step in [0, *steps]:
        start += step
        clip = pictures[start : start + frames]
        pixels.fill(clip)
        CpuPreprocessor(anew := np.zeros_like(moved), NANO).fill(clip)
        np.testing.assert_array_equal(moved, anew)


def test_repeated_frames_keep_their_slots() -> None:
    a, b = (crop_and_resize(smooth_frame(96, 96, seed), NANO) for seed in range(2))
    pixels = CpuPreprocessor(moved := np.zeros((1, 4, 3, 96, 96), np.float32), NANO)
    for clip in ([a, a, a, b], [a, b, b, b], [b, b, b, b], [b, a, b, a], [a, b, a, a]):
        pixels.fill(clip)
        CpuPreprocessor(anew := np.zeros_like(moved), NANO).fill(clip)
        np.testing.assert_array_equal(moved, anew)


def test_only_new_frames_are_normalised(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = [crop_and_resize(smooth_frame(96, 96, seed), NANO) for seed in range(6)]
    pixels = CpuPreprocessor(np.zeros((1, 4, 3, 96, 96), np.float32), NANO)
    pixels.fill(pictures[:4])
    work: list[object] = []
    real_multiply = np.multiply

    def multiply(pixels: np.ndarray, *others: Any, **options: Any) -> Any:
        work.append(pixels)
        return real_multiply(pixels, *others, **options)

    monkeypatch.setattr(np, "multiply", multiply)
    pixels.fill(pictures[2:6])
    assert [id(array) for array in work] == [id(pictures[4].rgb), id(pictures[5].rgb)]


def test_frames_are_compared_by_identity() -> None:
    # equality of arrays would compare pixels, or fail
    rgb, luminance = np.zeros((3, 4, 4), np.uint8), np.zeros((32, 32), np.float32)
    assert CroppedFrame(rgb, luminance) != CroppedFrame(rgb, luminance)
