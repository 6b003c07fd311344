"""Render Meta-World episodes with their scripted experts: frames and labels for training the nano preset.

One file an episode: DATA/<split>/<task>/<seed>.npz (see `episodes.py` for reading). A file that exists is skipped, so
the run can be stopped and resumed at any time. Tasks are interleaved, so that a partial run is balanced.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
from episodes import episode_path, save_episode
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from splits import SPLITS, Rollout, rollouts

RENDER_SIZE = 144  # rendered larger and area-averaged: costs 10-15 % more than 96, and thin parts do not flicker
FRAME_SIZE = 96
BLOCK = 20  # episodes a worker renders with one environment: building that takes 0.9 s, an episode 0.5 s

Job = tuple[str, str, str, list[Rollout]]


def jobs(data: Path, split: str, count: int) -> list[Job]:
    """Return the blocks of episodes still to render; the first block of every task comes before any second one."""
    blocks: list[tuple[int, Job]] = []
    for task, planned in rollouts(split, count).items():
        for start in range(0, len(planned), BLOCK):
            block = planned[start : start + BLOCK]
            todo = [rollout for rollout in block if not episode_path(data, split, task, rollout.seed).exists()]
            if todo:
                blocks.append((start, (str(data), split, task, todo)))
    return [job for _, job in sorted(blocks, key=lambda block: block[0])]


def render_block(job: Job) -> tuple[str, int, int, int]:
    """Render one block; return (task, episodes, episodes without success, frames)."""
    from simulator import Simulator

    data, split, task, todo = Path(job[0]), *job[1:]
    simulator = Simulator(f"{task}-v3", RENDER_SIZE, FRAME_SIZE)
    failed = frames = 0
    for rollout in todo:
        episode = simulator.run(rollout.seed, zone=rollout.zone)
        failed += not episode.success.any()
        save_episode(episode_path(data, split, task, rollout.seed), episode)
        frames += len(episode.frames)
    simulator.close()
    return task, len(todo), failed, frames


def run(pool: multiprocessing.pool.Pool, work: list[Job]) -> Iterator[tuple[str, int, int, int]]:
    yield from pool.imap_unordered(render_block, work)


@click.command()
@click.option("--data", type=click.Path(path_type=Path), default=Path("data/nano"), show_default=True)
@click.option("--split", "splits", type=click.Choice(list(SPLITS)), multiple=True, help="Only these; all if not given.")
@click.option("--train-episodes", default=SPLITS["train"].episodes, show_default=True, help="For each trained task.")
@click.option("--workers", default=os.cpu_count(), show_default=True)
def main(data: Path, splits: tuple[str, ...], train_episodes: int, workers: int) -> None:
    """Render the episodes of every split; the small ones come first."""
    counts = {name: split.episodes for name, split in SPLITS.items()} | {"train": train_episodes}
    chosen = sorted(splits or SPLITS, key=lambda name: counts[name])
    work = [job for name in chosen for job in jobs(data, name, counts[name])]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    total = sum(len(job[3]) for job in work)
    rendered = failed = frames = 0
    started = time.monotonic()
    context = multiprocessing.get_context("spawn")  # a forked OpenGL context does not work
    with context.Pool(workers) as pool, Progress(*columns, disable=not sys.stderr.isatty()) as progress:
        bar = progress.add_task("episodes", total=total)
        for done, result in enumerate(run(pool, work), start=1):
            rendered, failed, frames = rendered + result[1], failed + result[2], frames + result[3]
            progress.update(bar, completed=rendered)
            if not sys.stderr.isatty() and done % 25 == 0:
                rate = frames / (time.monotonic() - started)
                click.echo(f"{rendered}/{total} episodes, {failed} failed, {rate:.0f} frames/s", err=True)
    click.echo(f"{rendered} episodes, {frames} frames; in {failed} the expert never succeeded")


if __name__ == "__main__":
    main()
