"""The files of rendered episodes, one .npz each. Needs neither the simulator nor torch."""

from __future__ import annotations

import itertools
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from simulator import Episode

JPEG = [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]


@dataclass
class Labels:
    """One episode without its pixels. Arrays are (frames,), hand (frames, 3) in metres.

    phase: 0 approach, 1 act, 2 still, 3 attempt.
    """

    task: str
    seed: int
    stride: int
    camera: dict
    phase: np.ndarray
    moving: np.ndarray
    success: np.ndarray
    hand: np.ndarray


def episode_path(data: Path, split: str, task: str, seed: int) -> Path:
    return data / split / task / f"{seed:07d}.npz"


def save_episode(path: Path, episode: Episode) -> None:
    """Write an episode atomically, by renaming: a file that exists is complete."""
    coded = [cv2.imencode(".jpg", frame[..., ::-1], JPEG)[1] for frame in episode.frames]
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part")
    with temporary.open("wb") as file:
        np.savez(
            file,
            jpeg=np.concatenate(coded),
            offsets=np.cumsum([0, *map(len, coded)]),
            phase=episode.phase,
            moving=episode.moving,
            contact=episode.contact,
            success=episode.success,
            hand=episode.hand,
            meta=json.dumps(episode.meta()),
        )
    os.replace(temporary, path)


def load_labels(path: Path) -> Labels:
    with np.load(path) as file:
        meta = json.loads(str(file["meta"]))
        return Labels(
            task=meta["task"].removesuffix("-v3"),
            seed=meta["seed"],
            stride=meta["stride"],
            camera=meta["camera"],
            phase=file["phase"],
            moving=file["moving"],
            success=file["success"],
            hand=file["hand"],
        )


def load_frames(path: Path) -> np.ndarray:
    """The frames of one episode: uint8 (frames, 96, 96, 3) RGB."""
    with np.load(path) as file:
        jpeg, offsets = file["jpeg"], file["offsets"]
    parts = [jpeg[start:end] for start, end in itertools.pairwise(offsets)]
    return np.stack([cv2.imdecode(part, cv2.IMREAD_COLOR)[..., ::-1] for part in parts])


def list_episodes(data: Path, split: str) -> list[Path]:
    """Return all complete episodes of a split, with tasks interleaved."""
    return sorted((data / split).glob("*/*.npz"), key=lambda path: (path.stem, path.parent.name))
