"""Pixel augmentation of an episode: the same for all frames, except for sensor noise and slowly drifting light."""

from __future__ import annotations

import cv2
import numpy as np

LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
NOISE_POOL = 1 << 19  # samples: fresh gaussians for every pixel would cost as much as the stem


def augment(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Augment uint8 (n, side, side, 3) RGB. Never mirrors: left and right distinguish opening from closing."""
    strength = rng.uniform(0.2, 1.0)
    matrix = random_view(frames.shape[1], strength, rng)
    blur = rng.uniform(0.3, 0.9) * (rng.random() < 0.3)
    gamma = np.exp(0.25 * strength * rng.uniform(-1, 1))
    curve = (255 * (np.arange(256) / 255) ** gamma).round().astype(np.uint8)
    colours, drift = random_colours(strength, rng), light_drift(len(frames), rng)
    images = np.empty(frames.shape, np.float32)
    for image, frame, gain in zip(images, frames, drift, strict=True):
        image_out = cv2.LUT(move_and_blur(frame, matrix, blur), curve).astype(np.float32)
        cv2.transform(image_out, colours * gain, dst=image)
    noisy = add_sensor_noise(images, rng.uniform(0.5, 7.0) * strength, rng)
    if rng.random() < 0.5:
        quality = int(rng.integers(60, 96))
        noisy = np.stack([recompress(image, quality) for image in noisy])
    return noisy


def add_sensor_noise(images: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Add Gaussian noise of `sigma` grey levels, different for every frame: float32 (n, ...) -> uint8."""
    size = images[0].size
    pool = sigma * rng.standard_normal(NOISE_POOL + size, dtype=np.float32)
    out = np.empty(images.shape, np.uint8)
    for target, image, start in zip(out, images, rng.integers(0, NOISE_POOL, len(images)), strict=True):
        target[:] = np.clip(image + pool[start : start + size].reshape(image.shape) + 0.5, 0, 255)
    return out


def random_view(side: int, strength: float, rng: np.random.Generator) -> np.ndarray:
    """A 2x3 affine matrix: a few percent of zoom and shift, up to 3 degrees of roll."""
    centre = (side / 2, side / 2)
    matrix = cv2.getRotationMatrix2D(centre, 3 * strength * rng.uniform(-1, 1), 1 + 0.1 * strength * rng.uniform(-1, 1))
    matrix[:, 2] += 0.06 * side * strength * rng.uniform(-1, 1, 2)
    return matrix


def move_and_blur(image: np.ndarray, matrix: np.ndarray, blur: float) -> np.ndarray:
    image = cv2.warpAffine(image, matrix, image.shape[:2], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return cv2.GaussianBlur(image, (3, 3), blur) if blur else image


def random_colours(strength: float, rng: np.random.Generator) -> np.ndarray:
    """A 3x4 colour matrix on 0..255 values: saturation, white balance, contrast and brightness in one."""
    saturation = 1 + 0.4 * strength * rng.uniform(-1, 1)
    matrix = saturation * np.eye(3) + (1 - saturation) * np.tile(LUMA, (3, 1))
    contrast = 1 + 0.25 * strength * rng.uniform(-1, 1)
    matrix *= contrast * (1 + 0.1 * strength * rng.uniform(-1, 1, (3, 1)))
    offset = 127 * (1 - contrast) + 30 * strength * rng.uniform(-1, 1)
    return np.hstack([matrix, np.full((3, 1), offset)])


def light_drift(frames: int, rng: np.random.Generator) -> np.ndarray:
    """A gain for each frame: a slow wave of at most 4 % with a period of 4-16 s at 4 frames a second."""
    phase, period = rng.uniform(0, 2 * np.pi), rng.uniform(16, 64)
    return 1 + rng.uniform(0, 0.04) * np.sin(phase + 2 * np.pi * np.arange(frames) / period)


def recompress(image: np.ndarray, quality: int) -> np.ndarray:
    coded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return cv2.imdecode(coded, cv2.IMREAD_COLOR)[..., ::-1]
