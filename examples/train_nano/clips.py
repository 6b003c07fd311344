"""Clips of stem features with the phase that their frames are in, sampled from what features.py wrote."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tasks import OPPOSITES, TASKS

APPROACH, ACT, STILL = 0, 1, 2
FRAMES = 8  # a clip: 2 s at 4 frames a second
MAJORITY = 5  # frames of one phase that give a clip its label; with fewer it has none
HELD = 6  # frames for which an episode's first and last picture may be held before and after it
TAKES = 3  # noisy takes of a held picture: the frame itself and the two stored beside it

# How often each kind of clip is drawn under "describe"; the task query is put to act and approach clips only.
KINDS = {ACT: 0.5, APPROACH: 0.3, STILL: 0.2}


@dataclass(frozen=True)
class Episode:
    """Where one copy of an episode lies: rows of a shard, and the phase of each of its frames."""

    task: str
    held_out: bool
    rows: np.ndarray  # the shard, float16 (rows, 112, 6, 6), memory-mapped
    first: int
    phase: np.ndarray  # (frames,)


@dataclass(frozen=True)
class Clip:
    """Stem features float16 (8, 112, 6, 6) and what they show."""

    features: np.ndarray
    task: str
    phase: int


def load_episodes(features: Path, split: str) -> list[Episode]:
    """Every copy of every episode of a split."""
    episodes = []
    for index in sorted((features / split).glob("copy*/*.json")):
        rows = np.load(index.with_suffix(".npy"), mmap_mode="r")
        for entry in json.loads(index.read_text()):
            phase = np.array(entry["phase"], np.uint8)
            episodes.append(Episode(entry["task"], entry["held_out"], rows, entry["first"], phase))
    return episodes


def timeline(episode: Episode, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers and phases of an episode with a still picture held before and after it.

    A held picture is drawn from several takes with noise of their own, as a real camera gives it.
    """
    count = len(episode.phase)
    before = rng.integers(1 - TAKES, 1, HELD)
    after = count - 1 + rng.integers(0, TAKES, HELD)
    rows = episode.first + np.concatenate([before, np.arange(count), after])
    still = np.full(HELD, STILL, np.uint8)
    return rows, np.concatenate([still, episode.phase, still])


def clip_label(phases: np.ndarray) -> int | None:
    """The phase of most frames, or None where no phase has enough of them."""
    counts = np.bincount(phases, minlength=3)
    return int(counts.argmax()) if counts.max() >= MAJORITY else None


def windows(episode: Episode, stride: int, rng: np.random.Generator) -> Iterator[tuple[np.ndarray, int]]:
    """All labelled clips of an episode in order: (features, phase)."""
    rows, phases = timeline(episode, rng)
    for start in range(0, len(rows) - FRAMES + 1, stride):
        label = clip_label(phases[start : start + FRAMES])
        if label is not None:
            yield episode.rows[rows[start : start + FRAMES]], label


class Sampler:
    """Draws training clips: tasks evenly, opposite tasks always together, phases as KINDS says."""

    def __init__(self, episodes: list[Episode], seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.by_task: dict[str, list[Episode]] = defaultdict(list)
        for episode in episodes:
            self.by_task[episode.task].append(episode)
        self.tasks = [task for task in TASKS if self.by_task[task]]
        self.opposite = {a: b for pair in OPPOSITES for a, b in (pair, pair[::-1])}

    def batch(self, size: int) -> list[Clip]:
        clips: list[Clip] = []
        while len(clips) < size:
            task = self.tasks[self.rng.integers(len(self.tasks))]
            kind = int(self.rng.choice(list(KINDS), p=list(KINDS.values())))
            clips.append(self.draw(task, kind))
            if task in self.opposite:
                clips.append(self.draw(self.opposite[task], kind))
        return clips[:size]

    def draw(self, task: str, kind: int) -> Clip:
        """One clip of this kind; after 20 tries of any kind, since some episodes never stand still or never wait."""
        episodes = self.by_task[task]
        for attempt in range(100):
            episode = episodes[self.rng.integers(len(episodes))]
            rows, phases = timeline(episode, self.rng)
            start = self.rng.integers(0, len(rows) - FRAMES + 1)
            label = clip_label(phases[start : start + FRAMES])
            if label is not None and (label == kind or attempt >= 20):
                return Clip(episode.rows[rows[start : start + FRAMES]], task, label)
        raise ValueError(f"no labelled clip of {task} in 100 draws: render the episodes again")
