"""Renders narration streams: several unseen episodes under one camera, with still moments between them.

Writes OUT/demo.mp4 and OUT/demo.json, which says what happens when; or, with --streams N, OUT/stream<k>.mp4 and .json
of random tasks, on which the gates are calibrated. Each episode is a new table, so the picture cuts from one to the
next; the cuts lie in the still moments.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from augment import add_sensor_noise
from rich.console import Console
from simulator import PHASES, SHORT_ACT, STILL, Camera, Simulator, random_camera
from tasks import TASKS, phase_texts

SIZE = 384
RENDER_SIZE = 576
RATE = 8  # frames/s
CAMERA = Camera(azimuth=141.0, elevation=-29.0, distance=1.15, lookat=(0.0, 0.68, 0.12), held_out=False)
STORY = ("drawer-open", "button-press-topdown", "peg-insert-side", "door-close", "basketball", "hammer")
# Neither training nor validation has seen these layouts, and no calibration stream shows one of the demonstration's.
DEMO_SEED, STREAM_SEED = 2_000_000, 3_000_000
SEEDS_A_STREAM = 1000
BEFORE, AFTER = (1.0, 1.75), (2.5, 4.0)  # s a still picture is held before and after an episode
SHORTEST = 1.0  # s: a pause inside an action that is shorter belongs to the action
NOISE = 2.5  # grey levels at this size
DRIFT, DRIFT_PERIOD = 0.03, 23.0  # of the light; s
MOST_BYTES = 2_900_000

console = Console(stderr=True)


@dataclass
class Scene:
    """Frames uint8 (n, SIZE, SIZE, 3) and phases (n,), still parts included."""

    task: str
    seed: int
    frames: np.ndarray
    phases: np.ndarray


def render_scene(task: str, rng: np.random.Generator, camera: Camera, first_seed: int) -> Scene:
    """The first seed whose expert succeeds, with its first and last picture held."""
    # The speed of training: 2 control steps in 1/4 s where the act is short, 4 elsewhere.
    stride = 1 if f"{task}-v3" in SHORT_ACT else 2
    simulator = Simulator(f"{task}-v3", RENDER_SIZE, SIZE, max_frames=160)
    for seed in range(first_seed, first_seed + 20):
        episode = simulator.run(seed, stride, camera, vary=False)
        if episode.success.any():
            break
    simulator.close()
    before, after = (round(RATE * rng.uniform(*span)) for span in (BEFORE, AFTER))
    frames, phases = np.stack(episode.frames), smooth(episode.phase)
    frames = np.concatenate([frames[:1].repeat(before, 0), frames, frames[-1:].repeat(after, 0)])
    return Scene(task, seed, frames, np.pad(phases, (before, after), constant_values=STILL))


def smooth(phases: np.ndarray) -> np.ndarray:
    """Gives short pauses inside the motion to the phase before them."""
    phases = phases.copy()
    for start, end in runs(phases):
        if start > 0 and end < len(phases) and phases[start] == STILL and end - start < SHORTEST * RATE:
            phases[start:end] = phases[start - 1]
    return phases


def runs(phases: np.ndarray) -> list[tuple[int, int]]:
    """(start, end) of each stretch of one phase."""
    edges = np.flatnonzero(np.diff(phases)) + 1
    return list(zip([0, *edges.tolist()], [*edges.tolist(), len(phases)], strict=True))


def annotate(scenes: list[Scene]) -> dict:
    """Events in seconds, neighbouring still parts joined across the cuts, and the cuts themselves."""
    events, cuts, at = [], [], 0
    for scene in scenes:
        for start, end in runs(scene.phases):
            phase = int(scene.phases[start])
            texts = phase_texts(scene.task, phase)
            event = {"start": (at + start) / RATE, "end": (at + end) / RATE, "phase": PHASES[phase]}
            event |= {"task": None if phase == STILL else scene.task, "caption": texts[0], "captions": list(texts)}
            if events and phase == STILL and events[-1]["phase"] == "still":
                events[-1]["end"] = event["end"]
            else:
                events.append(event)
        at += len(scene.phases)
        cuts.append(at / RATE)
    story = [{"task": s.task, "caption": TASKS[s.task].captions[0], "seed": s.seed} for s in scenes]
    return {"frames_per_second": RATE, "seconds": at / RATE, "cuts": cuts[:-1], "story": story, "events": events}


def film(scenes: list[Scene], rng: np.random.Generator) -> np.ndarray:
    """All frames in a row under a slowly drifting light and with sensor noise, also where the picture stands still."""
    frames = np.concatenate([scene.frames for scene in scenes])
    seconds = np.arange(len(frames)) / RATE
    gain = 1 + DRIFT * np.sin(2 * np.pi * seconds / DRIFT_PERIOD)
    noisy = [add_sensor_noise(np.float32(f * g)[None], NOISE, rng)[0] for f, g in zip(frames, gain, strict=True)]
    return np.stack(noisy)


def encode(frames: np.ndarray, path: Path) -> None:
    """H.264 with the best quality that stays under MOST_BYTES."""
    for quality in range(24, 38):
        command = ["ffmpeg", "-y", "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgb24"]
        command += ["-s", f"{SIZE}x{SIZE}", "-r", str(RATE), "-i", "-", "-c:v", "libx264", "-pix_fmt", "yuv420p"]
        command += ["-preset", "slow", "-crf", str(quality), "-movflags", "+faststart", str(path)]
        subprocess.run(command, input=frames.tobytes(), check=True)
        if path.stat().st_size <= MOST_BYTES:
            return
    raise click.ClickException(f"{path} stays over {MOST_BYTES} bytes: leave a task out of STORY")


def write_stream(path: Path, story: Sequence[str], camera: Camera, first_seed: int, rng: np.random.Generator) -> None:
    """One video and its annotation beside it."""
    scenes = []
    for task in story:
        scenes.append(render_scene(task, rng, camera, first_seed))
        console.print(f"{task}: seed {scenes[-1].seed}, {len(scenes[-1].frames) / RATE:.1f} s", highlight=False)
    encode(film(scenes, rng), path)
    path.with_suffix(".json").write_text(json.dumps(annotate(scenes), indent=1) + "\n")
    click.echo(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("data/media"), show_default=True)
@click.option("--streams", default=0, help="Render this many calibration streams instead of the demonstration.")
@click.option("--seed", default=0, show_default=True, help="Of the still parts' lengths, the noise, tasks and cameras.")
def main(out: Path, streams: int, seed: int) -> None:
    """Render the demonstration video, or streams to calibrate on, with annotations."""
    out.mkdir(parents=True, exist_ok=True)
    if not streams:
        write_stream(out / "demo.mp4", STORY, CAMERA, DEMO_SEED, np.random.default_rng(seed))
    for number in range(streams):
        rng = np.random.default_rng((seed, number))
        story = rng.choice(list(TASKS), len(STORY), replace=False).tolist()
        first_seed = STREAM_SEED + SEEDS_A_STREAM * number
        write_stream(out / f"stream{number}.mp4", story, random_camera(rng, held_out=False), first_seed, rng)


if __name__ == "__main__":
    main()
