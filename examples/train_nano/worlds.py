"""Worlds: the disturbances that real cameras have and the simulator has not, for narration streams.

A world changes how scenes are filmed, never what happens in them, so that every event stays annotated. Amounts are for
pictures of 192 pixels, in pixels, grey levels of 0..255 and seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from augment import LUMA, add_sensor_noise

DRIFT, DRIFT_PERIOD = 0.03, 23.0  # of the light; s


@dataclass(frozen=True)
class World:
    """How scenes are filmed.

    Attributes:
        rate: frames/s of the video.
        speed: of all that happens, 1 is that of training.
        stillness: factor on the still stretches between and in episodes.
        cut_every: mean seconds between cuts to another scene's still picture and back; 0: none.
        noise: standard deviation of the sensor's noise, grey levels.
        jitter: standard deviation of the camera's position from frame to frame, pixels.
        sway: amplitude of its slow sway, pixels.
        foliage: share of the picture, at its upper edge, that moves like leaves in wind.
        walker: whether something that no text is about crosses the background now and then.
        lamp: share of the picture that a pulsing light fills.
        flicker: amplitude of the light's flicker, a share.
        exposure: whether the camera's gain follows the picture, late and in steps.
        night: whether the light goes down to night and infra-red and comes back, once a stream.
        quality: H.264 CRF.
    """

    rate: float = 8.0
    speed: float = 1.0
    stillness: float = 1.0
    cut_every: float = 0.0
    noise: float = 2.0
    jitter: float = 0.0
    sway: float = 0.0
    foliage: float = 0.0
    walker: bool = False
    lamp: float = 0.0
    flicker: float = 0.0
    exposure: bool = False
    night: bool = False
    quality: int = 20


WORLDS = {
    "own": World(),
    "slow": World(speed=0.5, stillness=3.0),
    "fast": World(speed=1.6),
    "idle": World(stillness=8.0),
    "cuts": World(cut_every=12.0),
    "5fps": World(rate=5.0),
    "25fps": World(rate=25.0),
    "jitter": World(jitter=1.5),
    "sway": World(sway=3.0, jitter=0.3),
    "foliage": World(foliage=0.25),
    "walker": World(walker=True),
    "lamp": World(lamp=0.005),
    "flicker": World(flicker=0.06),
    "exposure": World(exposure=True),
    "night": World(night=True),
    "noise": World(noise=6.0),
    "crf36": World(quality=36),
    "porch": World(foliage=0.12, jitter=0.4, exposure=True, lamp=0.003, noise=3.0, quality=30),  # all at once, in part
}
# The worlds on whose validation streams the gates' settings, and the constants of their statistics, are chosen; nano's
# own is the first.
CHOSEN_ON = (
    "own",
    "slow",
    "idle",
    "cuts",
    "25fps",
    "jitter",
    "foliage",
    "lamp",
    "exposure",
    "crf36",
    "walker",
    "porch",
)


def disturb(frames: np.ndarray, world: World, rng: np.random.Generator) -> np.ndarray:
    """Film frames, uint8 (n, side, side, 3) RGB, in this world; returns the same shape."""
    count, side = len(frames), frames.shape[1]
    seconds = np.arange(count) / world.rate
    gain = (1 + DRIFT * np.sin(2 * np.pi * seconds / DRIFT_PERIOD)) * flicker(seconds, world.flicker, rng)
    dark, noise = night(seconds, world.night), np.full(count, world.noise)
    noise += 4 * dark
    shift = camera_path(seconds, world, rng)
    background = Background(side, world, rng)
    lamp = Lamp(side, world.lamp, rng)
    exposure, out = 1.0, np.empty_like(frames)
    for number, frame in enumerate(frames):
        image = background.draw(frame.astype(np.float32), float(seconds[number]))
        image = lamp.draw(image, float(seconds[number]))
        image *= gain[number]
        if dark[number]:
            grey = (image @ LUMA.astype(np.float32))[..., None]
            image = (1 - dark[number]) * image + dark[number] * (0.7 * grey + 20)
        if world.exposure:
            wanted = np.clip(110 / max(float(image.mean()), 1.0), 0.75, 1.35)
            if abs(wanted / exposure - 1) > 0.06 and number % max(1, round(world.rate / 2)) == 0:
                exposure += 0.5 * (wanted - exposure)
            image *= exposure
        if shift[number].any():
            matrix = np.float32([[1, 0, shift[number, 0]], [0, 1, shift[number, 1]]])
            image = cv2.warpAffine(image, matrix, (side, side), borderMode=cv2.BORDER_REPLICATE)
        out[number] = add_sensor_noise(image[None], float(noise[number]), rng)[0]
    return out


def flicker(seconds: np.ndarray, amplitude: float, rng: np.random.Generator) -> np.ndarray:
    """Gain of a light that flickers with the mains: the camera sees a beat of a few hertz."""
    beat = rng.uniform(1.2, 3.3)
    return 1 + amplitude * np.sin(2 * np.pi * beat * seconds + rng.uniform(0, 6))


def night(seconds: np.ndarray, wanted: bool) -> np.ndarray:
    """How much of the picture is night (0 day .. 1 infra-red): a dusk of 20 s, a hard switch, and the same back."""
    dark = np.zeros(len(seconds))
    if wanted and len(seconds):
        dusk, dawn = 0.3 * seconds[-1], 0.7 * seconds[-1]
        falling = np.clip((seconds - dusk + 20) / 20, 0, 1) * 0.4
        rising = np.clip((dawn + 20 - seconds) / 20, 0, 1) * 0.4
        dark = np.where(seconds < dusk, falling, np.where(seconds < dawn, 1.0, rising))
    return dark


def camera_path(seconds: np.ndarray, world: World, rng: np.random.Generator) -> np.ndarray:
    """Shift of the picture in each frame, (n, 2) pixels: jitter of a mast and a slow sway."""
    path = world.jitter * rng.standard_normal((len(seconds), 2))
    for axis in range(2):
        for period in rng.uniform(1.5, 7.0, 3):
            path[:, axis] += world.sway / 2 * np.sin(2 * np.pi * seconds / period + rng.uniform(0, 6))
    return path


class Background:
    """Leaves in wind along the upper edge, and a figure that crosses it now and then."""

    def __init__(self, side: int, world: World, rng: np.random.Generator) -> None:
        self._height = round(side * world.foliage)
        coarse = rng.uniform(0, 1, (48, 96)).astype(np.float32)
        self._leaves = cv2.resize(coarse, (2 * side, side), interpolation=cv2.INTER_CUBIC)
        self._phases, self._side = rng.uniform(0, 6, 8), side
        self._crossings = np.cumsum(rng.exponential(14.0, 200)) if world.walker else np.zeros(0)
        self._colour = rng.uniform(20, 200, 3).astype(np.float32)

    def draw(self, image: np.ndarray, time: float) -> np.ndarray:
        if self._height:
            self._sway(image, time)
        for start in self._crossings[(self._crossings < time) & (time < self._crossings + 5)]:
            x = round((time - start) / 5 * (self._side + 24)) - 24
            y = round(0.06 * self._side + 2 * np.sin(9 * time))
            image[y : y + round(0.16 * self._side), max(x, 0) : max(x + 12, 0)] = self._colour
        return image

    def _sway(self, image: np.ndarray, time: float) -> None:
        rows, columns = np.mgrid[0 : self._height, 0 : self._side].astype(np.float32)
        gust = 0.5 + 0.5 * np.sin(2 * np.pi * time / 11 + self._phases[0])
        bend = 3 * gust * np.sin(2 * np.pi * time / 1.3 + columns / 17 + self._phases[1])
        bend += 2 * np.sin(2 * np.pi * time / 0.7 + rows / 9 + self._phases[2])
        x, y = columns + self._side / 2 + bend, rows + 10 + bend / 2
        leaves = cv2.remap(self._leaves, x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR)
        green = np.stack([40 + 60 * leaves, 70 + 110 * leaves, 30 + 40 * leaves], -1)
        fade = np.clip((self._height - rows) / 6, 0, 1)[..., None]
        image[: self._height] = fade * green + (1 - fade) * image[: self._height]


class Lamp:
    """A round light that pulses, somewhere in the upper half of the picture."""

    def __init__(self, side: int, share: float, rng: np.random.Generator) -> None:
        rows, columns = np.mgrid[0:side, 0:side]
        y, x = rng.uniform(0.05, 0.4) * side, rng.uniform(0.1, 0.9) * side
        self._spot = ((rows - y) ** 2 + (columns - x) ** 2 <= share * side**2 / np.pi)[..., None]
        self._period, self._share = rng.uniform(0.9, 1.6), share

    def draw(self, image: np.ndarray, time: float) -> np.ndarray:
        if not self._share:
            return image
        strength = 0.5 + 0.5 * np.sin(2 * np.pi * time / self._period)
        return np.where(self._spot, (1 - strength) * image + strength * np.float32([255, 60, 40]), image)
