"""Frames, embeddings and windows for the tests of the gates."""

from __future__ import annotations

import numpy as np

from vlj_edge.results import Window
from vlj_edge.runtime.gating.clip_window import ClipWindow, Encoded
from vlj_edge.runtime.gating.meaning import Change, MeaningGate
from vlj_edge.runtime.video.preprocess import THUMBNAIL, CroppedFrame

SIZE = 8


STEP = 0.5  # seconds between windows


def picture(luminance: float | np.ndarray) -> CroppedFrame:
    return CroppedFrame(np.zeros((3, 1, 1), np.uint8), np.full((THUMBNAIL, THUMBNAIL), luminance, np.float32))


def with_dot(column: int) -> CroppedFrame:
    """A still background with something 8 x 8 cells large on it."""
    cells = np.full((THUMBNAIL, THUMBNAIL), 0.5, np.float32)
    cells[8:16, column : column + 8] = 1.0
    return picture(cells)


def unit(vector: np.ndarray) -> np.ndarray:
    return np.asarray(vector / np.linalg.norm(vector), np.float32)


def at_angle(degrees: float) -> np.ndarray:
    vector = np.zeros(SIZE, np.float32)
    vector[:2] = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return vector


def window_at(time: float, embedding: np.ndarray, resting: bool | None = None) -> ClipWindow:
    """A window whose centre is `time`."""
    return ClipWindow(Window(round(time / STEP), time - 0.5, time + 0.5), [], resting, lambda _: Encoded(embedding))


def offer(gate: MeaningGate, time: float, embedding: np.ndarray, resting: bool | None = None) -> Change | None:
    return gate.offer(window_at(time, embedding, resting))
