"""Clips of stem features, labelled with the phase of their frames; read from the files of features.py."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tasks import OPPOSITES, TASKS

APPROACH, ACT, STILL, ATTEMPT = 0, 1, 2, 3
FRAMES = 8  # a clip: 2 s at 4 frames a second
MAJORITY = 5  # frames of one phase that give a clip its label; with fewer it has none
HELD = 6  # frames for which an episode's first and last picture may be held before and after it
TAKES = 3  # noisy versions of a held picture: the frame itself and two more
PAUSED = 0.3  # share of training clips cut from an episode that pauses once, so that a hand may rest anywhere
PAUSE = (2, 12)  # frames
SHORTEST = 4  # frames: a shorter pause belongs to what it interrupts, as in the streams (make_stream.py)

# How often each kind of clip is drawn for "describe" queries; task queries go to act and approach clips only.
KINDS = {ACT: 0.5, APPROACH: 0.3, STILL: 0.2}


@dataclass(frozen=True)
class Episode:
    """One copy of an episode: its rows in a shard, and the simulator's labels of its frames."""

    task: str
    seed: int
    zone: str  # of the camera: "training", "between" or "outside"
    azimuth: float  # degrees, as elevation
    elevation: float
    rows: np.ndarray  # the shard, float16 (rows, 112, 6, 6), memory-mapped
    first: int
    pause: int  # the frame with further noisy versions
    phase: np.ndarray  # uint8 (frames,)
    success: np.ndarray  # bool (frames,)
    hand: np.ndarray  # float32 (frames, 3), metres


@dataclass(frozen=True)
class Clip:
    """Stem features float16 (8, 112, 6, 6), the episode and frames they come from, and their phase."""

    features: np.ndarray
    episode: Episode
    frames: np.ndarray  # int (8,): held pictures repeat the first or the last
    phase: int

    @property
    def task(self) -> str:
        return self.episode.task


def load_episodes(features: Path, split: str) -> list[Episode]:
    """Every copy of every episode of a split."""
    episodes = []
    for index in sorted((features / split).glob("copy*/*.json")):
        rows = np.load(index.with_suffix(".npy"), mmap_mode="r")
        for entry in json.loads(index.read_text()):
            task, seed = entry["id"]
            camera = entry["camera"]
            episodes.append(
                Episode(
                    task,
                    seed,
                    *(camera[key] for key in ("zone", "azimuth", "elevation")),
                    rows,
                    entry["first"],
                    entry["pause"],
                    np.array(entry["phase"], np.uint8),
                    np.array(entry["success"], bool),
                    np.array(entry["hand"], np.float32),
                )
            )
    return episodes


def timeline(
    episode: Episode, rng: np.random.Generator, paused: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, frame numbers and phases of an episode with a still picture held before and after it.

    With probability `paused`, the frame `Episode.pause` is held for a while too. A held picture is drawn from several
    versions with different noise, like a real camera's.
    """
    count = len(episode.phase)
    rows, frames, phases = np.arange(count), np.arange(count), episode.phase
    if rng.random() < paused:
        at, length = episode.pause, int(rng.integers(*PAUSE))
        takes = np.array([at, *count + TAKES - 1 + np.arange(TAKES - 1)])
        rows = np.insert(rows, at + 1, takes[rng.integers(0, TAKES, length)])
        frames = np.insert(frames, at + 1, np.full(length, at))
        phases = np.insert(phases, at + 1, np.full(length, STILL if length >= SHORTEST else phases[at]))
    before = rng.integers(1 - TAKES, 1, HELD)
    after = count - 1 + rng.integers(0, TAKES, HELD)
    rows = episode.first + np.concatenate([before, rows, after])
    frames = np.pad(frames, HELD, mode="edge")
    return rows, frames, np.pad(phases, HELD, constant_values=STILL)


def clip_label(phases: np.ndarray) -> int | None:
    """Return the phase of at least MAJORITY frames; None if there is none."""
    counts = np.bincount(phases, minlength=4)
    return int(counts.argmax()) if counts.max() >= MAJORITY else None


def clips_of(episode: Episode, stride: int, rng: np.random.Generator) -> Iterator[Clip]:
    """All labelled clips of an episode in order."""
    rows, frames, phases = timeline(episode, rng)
    for start in range(0, len(rows) - FRAMES + 1, stride):
        part = slice(start, start + FRAMES)
        label = clip_label(phases[part])
        if label is not None:
            yield Clip(episode.rows[rows[part]], episode, frames[part], label)


class Sampler:
    """Draws training clips: tasks uniformly, opposite tasks always together, phases by KINDS."""

    def __init__(self, episodes: list[Episode]) -> None:
        self.by_task: dict[str, list[Episode]] = defaultdict(list)
        for episode in episodes:
            self.by_task[episode.task].append(episode)
        self.tasks = [task for task in TASKS if self.by_task[task]]
        self.opposite = {a: b for pair in OPPOSITES for a, b in (pair, pair[::-1]) if self.by_task[b]}

    def batch(self, size: int, rng: np.random.Generator) -> list[Clip]:
        clips: list[Clip] = []
        while len(clips) < size:
            task = self.tasks[rng.integers(len(self.tasks))]
            kind = int(rng.choice(list(KINDS), p=list(KINDS.values())))
            clips.append(self.draw(task, kind, rng))
            if task in self.opposite:
                clips.append(self.draw(self.opposite[task], kind, rng))
        return clips[:size]

    def draw(self, task: str, kind: int, rng: np.random.Generator) -> Clip:
        """Return a clip of this kind; after 20 tries of any kind, since some episodes have none."""
        episodes = self.by_task[task]
        for attempt in range(100):
            episode = episodes[rng.integers(len(episodes))]
            rows, frames, phases = timeline(episode, rng, PAUSED)
            start = rng.integers(0, len(rows) - FRAMES + 1)
            part = slice(start, start + FRAMES)
            label = clip_label(phases[part])
            if label is not None and (label == kind or (label, kind) == (ATTEMPT, ACT) or attempt >= 20):
                return Clip(episode.rows[rows[part]], episode, frames[part], label)
        raise ValueError(f"no labelled clip of {task} in 100 draws: render the episodes again")
