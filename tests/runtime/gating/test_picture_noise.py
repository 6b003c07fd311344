"""What counts as a change of the picture, and what is the camera's own noise."""

from __future__ import annotations

import io
from itertools import pairwise

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.runtime.gating.windows import picture
from vlj_edge import bundle
from vlj_edge.runtime.gating.picture_noise import PictureNoise, difference, find_shift, halfway, smoothed
from vlj_edge.runtime.gating.rest import RestDetector
from vlj_edge.runtime.video.preprocess import THUMBNAIL, CroppedFrame

REST, RATE, CLIP = bundle.RestSettings(), 4.0, 8
SIDE = 6 * THUMBNAIL  # pixels of the scenes below


def scene(seed: int = 0) -> np.ndarray:
    """A textured picture, float [SIDE, SIDE], 0..1, as of a room."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.uniform(0.2, 0.8, (13, 13)).astype(np.float32))
    return np.asarray(coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def seen(image: np.ndarray, noise: float = 0.0, seed: int = 0, shift: tuple[float, float] = (0, 0)) -> CroppedFrame:
    """A frame of a camera that is moved by `shift` pixels, with noise of 0..1 a pixel."""
    moved = Image.fromarray(image.astype(np.float32)).transform(
        (SIDE, SIDE), Image.Transform.AFFINE, (1, 0, -shift[0], 0, 1, -shift[1]), Image.Resampling.BILINEAR
    )
    pixels = np.asarray(moved)[8:-8, 8:-8] + noise * np.random.default_rng(seed).normal(size=(SIDE - 16, SIDE - 16))
    cells = Image.fromarray(pixels.astype(np.float32)).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
    return picture(np.asarray(cells))


def with_thing(image: np.ndarray, column: int, size: int = 24) -> np.ndarray:
    image = image.copy()
    image[100 : 100 + size, column : column + size] = 0.95
    return image


def share_at_rest(frames: list[CroppedFrame], last: int = 60) -> float:
    """The share of the last clips that count as at rest."""
    detector = RestDetector(REST, RATE)
    found = [detector.at_rest(frames[start : start + CLIP]) for start in range(0, len(frames) - CLIP + 1, 2)]
    return float(np.mean(found[-last:]))


DISTURBANCES = {
    "noise": lambda n, rng: seen(scene(), 0.05, n),
    "flicker": lambda n, rng: seen(scene() * (1 + 0.06 * np.sin(1.7 * n)), 0.01, n),
    "jitter": lambda n, rng: seen(scene(), 0.01, n, tuple(rng.normal(0, 1.5, 2))),
    "lamp": lambda n, rng: seen(
        np.where(np.hypot(*np.mgrid[-40:152, -60:132]) < 9, 0.5 + 0.5 * np.sin(n), scene()), 0.01, n
    ),
    "exposure": lambda n, rng: seen(scene() * (1 + 0.1 * (n // 20 % 2)), 0.01, n),
}


@pytest.mark.parametrize("name", DISTURBANCES)
def test_a_still_scene_rests_whatever_its_camera_does(name: str) -> None:
    rng = np.random.default_rng(1)
    frames = [DISTURBANCES[name](number, rng) for number in range(400)]
    assert share_at_rest(frames) >= 0.9
    plain = [frame.luminance for frame in frames]
    moved = [(np.abs(now - before) > 0.03).mean() >= 0.004 for before, now in pairwise(plain)]
    assert name in ("noise",) or np.mean(moved) > 0.02, "without compensation it would not rest"


@pytest.mark.parametrize("name", ["noise", "flicker", "jitter", "exposure"])
def test_what_moves_is_seen_through_the_same_disturbances(name: str) -> None:
    rng = np.random.default_rng(1)
    still = [DISTURBANCES[name](number, rng) for number in range(400)]
    moving = []
    for number in range(80):
        place = 20 + 2 * number
        gain = {"flicker": 1 + 0.06 * np.sin(1.7 * number), "exposure": 1 + 0.1 * (number // 20 % 2)}.get(name, 1.0)
        shift = tuple(rng.normal(0, 1.0, 2)) if name == "jitter" else (0, 0)
        moving.append(seen(with_thing(scene(), place, 40) * gain, 0.05 if name == "noise" else 0.01, number, shift))
    assert share_at_rest([*still, *moving], 30) <= 0.1


@pytest.mark.parametrize("pixels", [1, 0.5, 0.25])  # of 192, a frame: the slower ones step now and then
def test_slow_motion_is_movement(pixels: float) -> None:
    frames = [seen(with_thing(scene(), 20 + int(pixels * number)), 0.005, number) for number in range(140)]
    assert share_at_rest(frames) <= 0.1


def compressed(images: list[np.ndarray], quality: int, group: int) -> list[CroppedFrame]:
    """Every second picture of a video of 8 pictures/s, encoded by x264 in groups that begin with a full picture."""
    file, frames = io.BytesIO(), list[CroppedFrame]()
    with av.open(file, "w", "matroska") as container:
        options = {"crf": str(quality), "g": str(group), "threads": "1"}
        stream = container.add_stream("libx264", rate=8, width=SIDE, height=SIDE, pix_fmt="yuv420p", options=options)
        for image in images:
            grey = np.clip(255 * image, 0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, "gray").reformat(format="yuv420p")))
        container.mux(stream.encode())
    file.seek(0)
    with av.open(file) as container:
        for frame in list(container.decode(video=0))[::2]:
            frames.append(seen(frame.to_ndarray(format="gray") / 255))
    return frames


@pytest.mark.parametrize(("quality", "group"), [(36, 250), (40, 16)])
def test_a_still_scene_rests_however_its_video_is_compressed(quality: int, group: int) -> None:
    rng = np.random.default_rng(2)
    noisy = [scene() + rng.normal(0, 0.012, (SIDE, SIDE)) for _ in range(640)]
    moving = [with_thing(scene(), 20 + number, 40) + rng.normal(0, 0.012, (SIDE, SIDE)) for number in range(100)]
    frames = compressed([*noisy, *moving], quality, group)
    assert share_at_rest(frames[:320], 40) >= 0.9
    assert share_at_rest(frames, 16) <= 0.1, "what moves then is seen nevertheless"


def test_bursts_are_learned_only_from_what_comes_and_goes() -> None:
    noise = PictureNoise(THUMBNAIL)
    before = noise.bursts
    for _ in range(1000):
        noise.learn_bursts([0.01, 0.012, 0.01, 0.011], 0.04)  # it adds up: slow movement
        noise.learn_bursts([0.2, 0.1, 0.2, 0.1], 0.0)  # too large for noise
    assert noise.bursts == before
    for level in (0.02, 0.003):
        for _ in range(120):
            noise.learn_bursts([0.0, level, 0.0, level / 2], level / 2)
        assert 0.8 * level < noise.bursts < 1.3 * level
    assert noise.beyond_bursts(0.1) == 0.1, "a limit is raised, never lowered"


def test_a_lone_thing_before_a_plain_wall_is_no_shaking_camera() -> None:
    wall = np.full((SIDE, SIDE), 0.5)
    frames = [seen(with_thing(wall, 20 + 2 * number), 0.002, number) for number in range(70)]
    assert share_at_rest(frames, 20) == 0


def test_a_camera_that_pans_moves() -> None:
    wide = np.concatenate([scene(seed) for seed in range(4)], axis=1)
    frames = [seen(wide[:, 4 * number : 4 * number + SIDE], 0.005, number) for number in range(130)]
    assert share_at_rest(frames, 40) <= 0.1


def test_a_picture_in_which_everything_always_changes_does_not_rest() -> None:
    frames = [seen(scene(number), 0.0, number) for number in range(300)]
    assert share_at_rest(frames) == 0


@given(st.floats(-1, 1), st.floats(-1, 1))
def test_the_shift_that_is_found_is_the_one_that_was_made(x: float, y: float) -> None:
    cell = (SIDE - 16) / THUMBNAIL  # pixels
    before, now = seen(scene()).luminance, seen(scene(), shift=(x * cell, y * cell)).luminance
    found = find_shift(smoothed(now), smoothed(before))
    assert np.hypot(found[0] + x, found[1] + y) < 0.12


def test_noise_is_learned_within_a_minute_and_forgotten_within_two() -> None:
    noise, rng = PictureNoise(THUMBNAIL), np.random.default_rng(0)
    before = smoothed(seen(scene()).luminance)
    for level, pictures in ((0.02, 240), (0.0005, 480)):
        for _ in range(pictures):
            now = smoothed(seen(scene()).luminance) + level * rng.normal(size=before.shape).astype(np.float32)
            noise.learn(difference(now, before))
        median = float(np.median(noise.median))
        assert 0.3 * level < median < 2 * level
        changed = [
            noise.changed(difference(before + level * rng.normal(size=before.shape).astype(np.float32), before), 0, 6)
            for _ in range(50)
        ]
        assert np.mean(changed) < 5
    assert noise.median.shape == (THUMBNAIL, THUMBNAIL) and noise.median.nbytes == 4 * THUMBNAIL**2, (
        "its state is bounded"
    )


def test_a_thumbnail_is_smoothed_and_moved_as_padding_with_its_edges_would() -> None:
    cells = np.random.default_rng(2).random((THUMBNAIL, THUMBNAIL)).astype(np.float32)
    padded = np.pad(cells, 1, mode="edge")
    kernel = np.outer([1, 2, 1], [1, 2, 1]) / 16
    around = np.lib.stride_tricks.sliding_window_view(padded, (3, 3))
    assert np.allclose(smoothed(cells), (around * kernel).sum(axis=(2, 3)), atol=1e-6)
    first, second = halfway(cells, cells, (0.5, -1.0))
    across = 0.75 * padded[:, 1:-1] + 0.25 * padded[:, :-2]
    assert np.allclose(first, 0.5 * across[1:-1] + 0.5 * across[2:], atol=1e-6)
    across = 0.75 * padded[:, 1:-1] + 0.25 * padded[:, 2:]
    assert np.allclose(second, 0.5 * across[1:-1] + 0.5 * across[:-2], atol=1e-6)
