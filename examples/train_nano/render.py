"""Renders Meta-World episodes with their scripted experts: frames and labels for training the nano preset.

One file an episode: DATA/<split>/<task>/<seed>.npz (see `episodes.py` for reading). A file that exists is skipped, so
the run can be stopped and started at any time; tasks are interleaved, so that any prefix of it is balanced.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
from episodes import episode_path, failure_path, save_episode
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from tasks import TASKS

RENDER_SIZE = 144  # rendered larger and area-averaged: costs 10-15 % more than 96, and thin parts do not flicker
FRAME_SIZE = 96
BLOCK = 20  # episodes a worker renders with one environment: building that takes 0.9 s, an episode 0.5 s
FIRST_SEED = {"train": 0, "val": 1_000_000}  # disjoint: validation never sees a training layout

Job = tuple[str, str, str, list[int]]


def jobs(data: Path, split: str, count: int) -> list[Job]:
    """Blocks of seeds still to render, all tasks in turn before any task's next block."""
    blocks = []
    for start in range(0, count, BLOCK):
        for index, task in enumerate(TASKS):
            numbers = range(start, min(start + BLOCK, count))
            seeds = [FIRST_SEED[split] + number * len(TASKS) + index for number in numbers]
            todo = [s for s in seeds if not any(p(data, split, task, s).exists() for p in (episode_path, failure_path))]
            if todo:
                blocks.append((str(data), split, task, todo))
    return blocks


def render_block(job: Job) -> tuple[str, int, int, int]:
    """Renders one block; returns (task, episodes kept, episodes that never succeeded, frames)."""
    from simulator import Simulator

    data, split, task, seeds = Path(job[0]), *job[1:]
    simulator = Simulator(f"{task}-v3", RENDER_SIZE, FRAME_SIZE)
    kept = failed = frames = 0
    for seed in seeds:
        held_out = split == "val" and (seed // len(TASKS)) % 2 == 1  # every other one: cameras in the held-out bands
        episode = simulator.run(seed, held_out=held_out)
        if not episode.success.any():
            failed += 1
            path = failure_path(data, split, task, seed)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            continue
        save_episode(episode_path(data, split, task, seed), episode)
        kept, frames = kept + 1, frames + len(episode.frames)
    simulator.close()
    return task, kept, failed, frames


def run(pool: multiprocessing.pool.Pool, work: list[Job]) -> Iterator[tuple[str, int, int, int]]:
    yield from pool.imap_unordered(render_block, work)


@click.command()
@click.option("--data", type=click.Path(path_type=Path), default=Path("data/nano"), show_default=True)
@click.option("--split", type=click.Choice(["train", "val", "both"]), default="both", show_default=True)
@click.option("--train-episodes", default=200, show_default=True, help="Training episodes a task.")
@click.option("--val-episodes", default=8, show_default=True, help="Validation episodes a task.")
@click.option("--workers", default=os.cpu_count(), show_default=True)
def main(data: Path, split: str, train_episodes: int, val_episodes: int, workers: int) -> None:
    """Render the training and validation episodes; validation comes first."""
    work = jobs(data, "val", val_episodes) if split != "train" else []
    work += jobs(data, "train", train_episodes) if split != "val" else []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    total = sum(len(job[3]) for job in work)
    kept = failed = frames = 0
    started = time.monotonic()
    context = multiprocessing.get_context("spawn")  # a forked OpenGL context does not work
    with context.Pool(workers) as pool, Progress(*columns, disable=not sys.stderr.isatty()) as progress:
        bar = progress.add_task("episodes", total=total)
        for done, result in enumerate(run(pool, work), start=1):
            kept, failed, frames = kept + result[1], failed + result[2], frames + result[3]
            progress.update(bar, completed=kept + failed)
            if not sys.stderr.isatty() and done % 25 == 0:
                rate = frames / (time.monotonic() - started)
                click.echo(f"{kept + failed}/{total} episodes, {failed} failed, {rate:.0f} frames/s", err=True)
    click.echo(f"{kept} episodes, {frames} frames; {failed} dropped because the expert never succeeded")


if __name__ == "__main__":
    main()
