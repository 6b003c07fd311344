"""What in the difference between two pictures is the camera's own: noise, flicker, a shaking mast, leaves in wind.

Pictures are luminance thumbnails. Before two are compared, the second is brought to the light and the place of the
first: a gain for the whole picture (flicker, auto-exposure) and a small shift (jitter, sway), so that neither counts as
a change. What is left is judged cell by cell against what that cell usually does in this stream.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Cells = npt.NDArray[np.float32]

_BLACK = 0.02  # luminance that is added before gains are taken, so that black has one
_LARGEST_GAIN = 1.2  # of flicker and auto-exposure; what goes beyond is a change of the light that may mean something
_STEPS = 3  # of the search for the shift
_LARGEST_SHIFT = 1.5  # cells; a larger one is a movement of the camera, not a shake
_BLOCK = 8  # cells a side of the parts of a picture that have to agree on a shift
_TEXTURE = 0.004  # mean gradient from which on a part of the picture can tell a shift
_AT_START = 0.002  # luminance: the noise of a good camera, smoothed
_LEAST, _MOST = 0.0003, 0.04  # of a cell's noise: what always moves by more is not noise
_ALWAYS_MOVES = 0.01  # of a cell's noise, from which on it is something that moves
_SHAKE = 0.05  # cells: a smaller shift needs no compensation
_STEADY, _TRY_EVERY = 12, 4  # pictures without a shift after which one is looked for in every fourth only
_BURST_AT_START = 0.003  # luminance
_LEAST_BURST, _LARGEST_BURST = 0.001, 0.03  # a larger change is never taken for noise
_SIMILAR = 0.3  # of the largest difference within a second that the second largest must be, to tell
_BURST_QUANTILE = 0.9  # of what is taken for noise, that is learned
_BURST_PACE = 0.3  # of that level that one second can change it by
_TIMES_BURSTS = 1.5  # a movement is larger than that
_PACE = 0.02  # of a cell's noise that one picture can change it by: a minute for a factor of 100 at 4 pictures/s


class Difference(NamedTuple):
    """How two pictures differ once light and place are compensated.

    Attributes:
        cells: float32 [side, side], absolute difference of each cell.
        tolerance: float32 [side, side], what the compensation itself may have left there; infinite at the edge of a
            picture that is shifted, where something else has come into it.
        shift: cells to the right and down.
    """

    cells: Cells
    tolerance: Cells
    shift: tuple[float, float]


class PictureNoise:
    """Learns for each cell what neighbouring pictures differ by while nothing happens: a running median.

    A cell that always moves (a lamp, leaves, a screen) gets a high one, and then no longer counts. What a compressed
    video does is no cell's median: most pictures repeat a cell, and now and then one refreshes many. That is learned
    for the picture as a whole (`bursts`). It forgets within about a minute.

    Args:
        side: cells a side.

    Attributes:
        median: float32 [side, side], luminance.
        bursts: what the picture changes by now and then and comes back from, luminance.
    """

    def __init__(self, side: int) -> None:
        self.median = np.full((side, side), _AT_START, np.float32)
        self.bursts = _BURST_AT_START
        self._seen = self._steady = 0

    @property
    def seen(self) -> int:
        """Number of differences that it has learned from."""
        return self._seen

    @property
    def shakes(self) -> bool:
        """Whether the camera has shaken in the last few pictures."""
        return self._seen > 0 and self._steady < min(_STEADY, self._seen)

    @property
    def may_shake(self) -> bool:
        """Whether to look for a shift: always while the camera shakes, else now and then, since it costs most."""
        return self._steady < _STEADY or self._steady % _TRY_EVERY == 0

    def learned(self) -> tuple[float, ...]:
        """Return the noise of each cell, row by row, rounded; also while another thread is learning."""
        return tuple(round(cell, 6) for cell in np.clip(self.median, _LEAST, _MOST).ravel().tolist())

    def restore(self, median: Cells, seen: int, bursts: float = _BURST_AT_START) -> None:
        """Go on from what was learned before.

        Raises:
            ValueError: that is not the noise of such a picture.
        """
        if median.shape != self.median.shape or not ((median >= _LEAST) & (median <= _MOST)).all() or seen < 0:
            raise ValueError(f"noise is that of {self.median.size} cells, each {_LEAST} to {_MOST}")
        if not _LEAST_BURST <= bursts <= _LARGEST_BURST:
            raise ValueError(f"bursts are {_LEAST_BURST} to {_LARGEST_BURST}")
        self.median, self._seen, self.bursts = median.astype(np.float32), seen, bursts

    def learn(self, difference: Difference) -> None:
        """Take the difference between two neighbouring pictures."""
        self._seen += 1
        self._steady = 0 if np.hypot(*difference.shift) > _SHAKE else self._steady + 1
        pace = max(_PACE, 0.25 / self._seen)
        self.median *= np.where(difference.cells > self.median, 1 + pace, 1 - pace).astype(np.float32)
        np.clip(self.median, _LEAST, _MOST, out=self.median)

    def learn_bursts(self, sizes: Sequence[float], overall: float) -> None:
        """Take what a second of pictures differs by, if it is noise: that comes and goes, while movement adds up.

        Args:
            sizes: of the differences between neighbouring pictures (`size`).
            overall: of the difference between the first and the last of them.
        """
        second, largest = sorted(sizes)[-2:]  # what changes once only may last or not
        if second >= _SIMILAR * largest and overall <= largest <= _LARGEST_BURST:
            above = largest > self.bursts
            bursts = self.bursts * (1 + _BURST_PACE * (_BURST_QUANTILE - (not above)))
            self.bursts = min(max(bursts, _LEAST_BURST), _LARGEST_BURST)

    def beyond_bursts(self, least: float) -> float:
        """Return the luminance difference from which on a movement counts: `least`, or more than bursts of noise."""
        return max(least, _TIMES_BURSTS * self.bursts)

    def size(self, difference: Difference, cells: int, times: float) -> float:
        """Return the luminance that this many cells differ by, without those whose own noise, so many times, explains
        it."""
        left = np.where(difference.cells > times * self.median, difference.cells - difference.tolerance, 0)
        return max(0.0, float(np.partition(left, -cells, axis=None)[-cells]))

    def limit(self, least: float, times: float) -> Cells:
        """Return the difference of each cell that is none yet: `least`, or so many times its noise."""
        limit: Cells = np.maximum(times * self.median, least)
        return limit

    def moved(self, difference: Difference, least: float, times: float) -> npt.NDArray[np.bool_]:
        """Return which cells, bool [side, side], differ by more than `least` and by more than `times` their noise."""
        return difference.cells > self.limit(least, times) + difference.tolerance

    def changed(self, difference: Difference, least: float, times: float, but_restless: bool = False) -> int:
        """Return the number of cells that differ by more than `least` and by more than `times` their noise; if some
        cells cannot tell, that of the whole picture, at the same share.

        Args:
            but_restless: without those that always move, whose noise says nothing about pictures that are further apart
                than neighbours.
        """
        differ = self.moved(difference, least, times)
        if but_restless:
            differ &= self.median <= _ALWAYS_MOVES
        share = float(differ.mean(where=np.isfinite(difference.tolerance)))
        return ceil(share * self.median.size)

    def restless(self) -> float:
        """Return the share of the picture, 0..1, that always moves."""
        return float((self.median > _ALWAYS_MOVES).mean())


def smoothed(luminance: Cells) -> Cells:
    """Return thumbnails [..., side, side] smoothed by a binomial filter of 3 x 3 cells: shifts below a cell then follow
    their gradient."""
    above, below = _neighbours(luminance, 0)
    rows = above + 2 * luminance + below
    left, right = _neighbours(rows, 1)
    cells: Cells = (left + 2 * rows + right) / np.float32(16)
    return cells


def _neighbours(cells: Cells, axis: int) -> tuple[Cells, Cells]:
    """Return for each cell of [..., rows, columns] the one before and the one after it along rows (0) or columns (1),
    at the edge itself (np.pad takes ten times as long)."""
    if axis == 0:
        first, last = cells[..., :1, :], cells[..., -1:, :]
        return np.concatenate((first, cells[..., :-1, :]), -2), np.concatenate((cells[..., 1:, :], last), -2)
    first, last = cells[..., :1], cells[..., -1:]
    return np.concatenate((first, cells[..., :-1]), -1), np.concatenate((cells[..., 1:], last), -1)


def difference(now: Cells, before: Cells, enough: float = 0.0, shaking: float | None = 0.1) -> Difference:
    """Compare two smoothed thumbnails in the same light and place.

    Args:
        enough: a difference, 0..1, below which nothing has to be explained by a shift.
        shaking: of a shift in cells times the local contrast, what may be left after it is compensated; None: no
            shift is looked for.
    """
    before = in_light_of(now, before)
    plain = now - before
    unshifted = Difference(np.abs(plain), np.zeros_like(plain), (0.0, 0.0))
    if shaking is None or unshifted.cells.max() <= enough:
        return unshifted
    shift = find_shift(now, before)
    length = float(np.hypot(*shift))
    if not 0 < length <= _LARGEST_SHIFT:
        return unshifted
    first, second = halfway(now, before, shift)
    middle: Cells = (first + second) * np.float32(0.5)
    if not _explains(first - second, plain, middle):
        return unshifted
    tolerance = np.full_like(middle, np.inf)
    tolerance[1:-1, 1:-1] = np.float32(shaking * length) * _contrast(middle)[1:-1, 1:-1]
    return Difference(np.abs(first - second), tolerance, shift)


def in_light_of(now: Cells, before: Cells) -> Cells:
    """Return the thumbnails `before`, [..., side, side], each with one gain that brings it to the light of `now`."""
    gain = np.median((now + _BLACK) / (before + _BLACK), axis=(-2, -1), keepdims=True)
    lit: Cells = (before + _BLACK) * np.clip(gain, 1 / _LARGEST_GAIN, _LARGEST_GAIN).astype(np.float32) - _BLACK
    return lit


def find_shift(now: Cells, before: Cells) -> tuple[float, float]:
    """Return the shift (x, y) in cells that maps one picture on the other best: least squares on the gradient.

    Cells that fit badly, that is, what moves by itself, count for less in each further step (Lucas and Kanade 1981,
    with Geman and McClure's weights).
    """
    shift = np.zeros(2)
    for step in range(_STEPS):
        first, second = halfway(now, before, (float(shift[0]), float(shift[1])))
        rest, (down, right) = first - second, np.gradient((first + second) / 2)
        weight = np.ones_like(rest)
        if step:
            steep = np.hypot(right, down)
            scale = 3 * np.median(np.abs(rest[steep >= np.median(steep)])) + 0.004
            weight = (1 + (rest / scale) ** 2) ** -2
        x, y = weight * right, weight * down
        normal = np.array([[(x * right).sum(), (x * down).sum()], [(x * down).sum(), (y * down).sum()]])
        normal += 1e-3 * np.eye(2)  # a picture without gradient has no shift
        shift += np.linalg.solve(normal, [(x * rest).sum(), (y * rest).sum()])
        np.clip(shift, -1.9, 1.9, out=shift)
    return float(shift[0]), float(shift[1])


def halfway(now: Cells, before: Cells, shift: tuple[float, float]) -> tuple[Cells, Cells]:
    """Return both pictures moved half the shift towards each other, so that interpolation blurs them alike."""
    return _moved(now, -shift[0] / 2, -shift[1] / 2), _moved(before, shift[0] / 2, shift[1] / 2)


def _moved(picture: Cells, x: float, y: float) -> Cells:
    """Return picture[row + y, column + x], interpolated linearly, with edges repeated; |x| and |y| below 1."""
    for axis, by in ((1, x), (0, y)):
        if by:
            beside = _neighbours(picture, axis)[1 if by > 0 else 0]
            picture = np.float32(1 - abs(by)) * picture + np.float32(abs(by)) * beside
    return picture


def _explains(rest: Cells, plain: Cells, picture: Cells) -> bool:
    """Return whether a shift explains the difference in most parts of the picture that can tell, and in several.

    One thing that moves before a plain wall has the gradients of a picture that shifts, but not in all its parts.
    """
    down, right = np.gradient(picture)
    texture = _by_block(np.hypot(right, down)) > _TEXTURE
    better = _by_block(np.abs(rest)) < 0.8 * _by_block(np.abs(plain))
    return bool(2 * texture.sum() >= texture.size and (better & texture).sum() >= 0.7 * texture.sum())


def _by_block(values: Cells) -> Cells:
    parts = values.shape[0] // _BLOCK
    blocks: Cells = values.reshape(parts, _BLOCK, parts, _BLOCK).mean(axis=(1, 3))
    return blocks


def _contrast(picture: Cells) -> Cells:
    """Return the difference between the brightest and the darkest of the 3 x 3 cells around each cell."""
    highest = lowest = picture
    for axis in (0, 1):
        highest = np.maximum(highest, np.maximum(*_neighbours(highest, axis)))
        lowest = np.minimum(lowest, np.minimum(*_neighbours(lowest, axis)))
    contrast: Cells = highest - lowest
    return contrast
