"""Render narration streams: several unseen episodes under one camera, with still moments between them.

Writes streams of random tasks to OUT/<split>/stream<k>.mp4 with annotated events in .json, on which the gates are
calibrated and tested; or, with --demo, OUT/demo.mp4 and OUT/demo.json. Each episode has its own table, so there is a
cut between episodes, inside a still moment.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np
from augment import add_sensor_noise
from cameras import Camera, random_camera
from simulator import PHASES, SHORT_ACT, STILL, Simulator
from splits import DEMO_SEED, SEEDS_A_STREAM, STREAM_SEED
from tasks import TASKS, phase_texts, trained_tasks

RATE = 8  # frames/s
CAMERA = Camera(azimuth=141.0, elevation=-29.0, distance=1.15, lookat=(0.0, 0.68, 0.12), zone="training")
STORY = ("drawer-open", "button-press-topdown", "peg-insert-side", "door-close", "basketball", "hammer")
TRIES = 20  # seeds a scene may use
SHORTEST = 1.0  # s: a pause inside an action that is shorter belongs to the action
DRIFT, DRIFT_PERIOD = 0.03, 23.0  # of the light; s
MOST_BYTES = 2_900_000


@dataclass(frozen=True)
class Style:
    """How scenes are joined into a stream. Spans are (shortest, longest) seconds."""

    size: int  # pixels
    before: tuple[float, float]  # a still picture before an episode
    after: tuple[float, float]
    pauses: float  # probability that an episode is held once in the middle
    pause: tuple[float, float]
    noise: float  # grey levels at this size
    quality: range  # H.264 CRF, from the best on


DEMO = Style(384, (1.0, 1.75), (2.5, 4.0), 0.0, (0.0, 0.0), 2.5, range(24, 38))
STREAM = Style(192, (0.5, 2.0), (1.0, 6.0), 0.4, (0.6, 2.5), 2.0, range(20, 21))
LENGTHS = (180.0, 300.0)  # s of a stream; the last episode may run over


@dataclass
class Scene:
    """Frames uint8 (n, size, size, 3) and phases (n,), still parts included."""

    task: str
    seed: int
    frames: np.ndarray
    phases: np.ndarray


def render_scene(task: str, style: Style, rng: np.random.Generator, camera: Camera, first_seed: int) -> Scene:
    """Render the first seed whose expert succeeds; hold the first and last frame, and perhaps one in between."""
    # The speed of training: 2 control steps in 1/4 s where the act is short, 4 elsewhere.
    stride = 1 if f"{task}-v3" in SHORT_ACT else 2
    simulator = Simulator(f"{task}-v3", style.size * 3 // 2, style.size, max_frames=160)
    for seed in range(first_seed, first_seed + TRIES):
        episode = simulator.run(seed, stride, camera, vary=False)
        if episode.success.any():
            break
    simulator.close()
    before, after = (round(RATE * rng.uniform(*span)) for span in (style.before, style.after))
    frames, phases = np.stack(episode.frames), episode.phase
    if style.pauses and rng.random() < style.pauses:
        frames, phases = hold(frames, phases, int(rng.integers(len(phases))), round(RATE * rng.uniform(*style.pause)))
    frames = np.concatenate([frames[:1].repeat(before, 0), frames, frames[-1:].repeat(after, 0)])
    return Scene(task, seed, frames, smooth(np.pad(phases, (before, after), constant_values=STILL)))


def hold(frames: np.ndarray, phases: np.ndarray, frame: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return frames and phases with one frame held for `count` more frames."""
    frames = np.insert(frames, [frame] * count, frames[frame], axis=0)
    return frames, np.insert(phases, [frame + 1] * count, STILL)


def smooth(phases: np.ndarray) -> np.ndarray:
    """Relabel short pauses inside a motion with the phase before them."""
    phases = phases.copy()
    for start, end in runs(phases):
        if start > 0 and end < len(phases) and phases[start] == STILL and end - start < SHORTEST * RATE:
            phases[start:end] = phases[start - 1]
    return phases


def runs(phases: np.ndarray) -> list[tuple[int, int]]:
    """(start, end) of each stretch of one phase."""
    edges = np.flatnonzero(np.diff(phases)) + 1
    return list(zip([0, *edges.tolist()], [*edges.tolist(), len(phases)], strict=True))


def annotate(scenes: list[Scene], camera: Camera) -> dict:
    """Return the annotation: events in seconds (still parts joined across cuts), cuts, and the camera."""
    events, cuts, frame = [], [], 0
    for scene in scenes:
        for start, end in runs(scene.phases):
            phase = int(scene.phases[start])
            texts = phase_texts(scene.task, phase)
            event = {"start": (frame + start) / RATE, "end": (frame + end) / RATE, "phase": PHASES[phase]}
            event |= {"task": None if phase == STILL else scene.task, "caption": texts[0], "captions": list(texts)}
            if events and phase == STILL and events[-1]["phase"] == "still":
                events[-1]["end"] = event["end"]
            else:
                events.append(event)
        frame += len(scene.phases)
        cuts.append(frame / RATE)
    story = [{"task": s.task, "caption": TASKS[s.task].captions[0], "seed": s.seed} for s in scenes]
    header = {"frames_per_second": RATE, "seconds": frame / RATE, "camera": asdict(camera)}
    return header | {"cuts": cuts[:-1], "story": story, "events": events}


def film(scenes: list[Scene], noise: float, rng: np.random.Generator) -> np.ndarray:
    """Join all frames; add slowly drifting light and sensor noise, also to held frames."""
    frames = np.concatenate([scene.frames for scene in scenes])
    seconds = np.arange(len(frames)) / RATE
    gain = 1 + DRIFT * np.sin(2 * np.pi * seconds / DRIFT_PERIOD)
    noisy = [add_sensor_noise(np.float32(f * g)[None], noise, rng)[0] for f, g in zip(frames, gain, strict=True)]
    return np.stack(noisy)


def encode(frames: np.ndarray, path: Path, quality: range) -> None:
    """Encode as H.264 with the first of these qualities that stays under MOST_BYTES, or with the only one."""
    for crf in quality:
        command = ["ffmpeg", "-y", "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgb24"]
        command += ["-s", f"{frames.shape[2]}x{frames.shape[1]}", "-r", str(RATE), "-i", "-"]
        command += ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-preset", "slow", "-crf", str(crf)]
        command += ["-movflags", "+faststart", "-f", "mp4", str(path)]
        subprocess.run(command, input=frames.tobytes(), check=True)
        if len(quality) == 1 or path.stat().st_size <= MOST_BYTES:
            return
    raise click.ClickException(f"{path} stays over {MOST_BYTES} bytes: leave a task out of STORY")


def write_stream(path: Path, scenes: list[Scene], style: Style, camera: Camera, rng: np.random.Generator) -> None:
    """Write a video, then its annotation: a stream with an annotation is complete."""
    encode(film(scenes, style.noise, rng), path, style.quality)
    path.with_suffix(".json").write_text(json.dumps(annotate(scenes, camera), indent=1) + "\n")


def render_demo(out: Path) -> None:
    rng = np.random.default_rng(0)
    scenes = [render_scene(task, DEMO, rng, CAMERA, DEMO_SEED) for task in STORY]
    write_stream(out / "demo.mp4", scenes, DEMO, CAMERA, rng)


def render_stream(job: tuple[str, str, int]) -> str:
    """Render a stream of distinct trained tasks under one camera, in every other stream from a held-out zone."""
    out, split, number = Path(job[0]), *job[1:]
    path = out / split / f"stream{number}.mp4"
    if path.with_suffix(".json").exists():
        return f"{path}: there already"
    path.parent.mkdir(parents=True, exist_ok=True)
    first_seed = STREAM_SEED[split] + SEEDS_A_STREAM * number
    rng = np.random.default_rng(first_seed)
    camera = random_camera(rng, "between" if number % 2 else "training")
    frames_wanted, scenes = RATE * rng.uniform(*LENGTHS), []
    for place, task in enumerate(rng.permutation(trained_tasks()).tolist()):
        scenes.append(render_scene(task, STREAM, rng, camera, first_seed + TRIES * place))
        if sum(len(scene.phases) for scene in scenes) >= frames_wanted:
            break
    write_stream(path, scenes, STREAM, camera, rng)
    return f"{path}: {len(scenes)} episodes, {path.stat().st_size / 1e6:.1f} MB"


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("data/streams"), show_default=True)
@click.option("--demo", is_flag=True, help="Render the demonstration video instead of streams.")
@click.option("--val", default=40, show_default=True, help="Streams to choose thresholds on.")
@click.option("--test", default=24, show_default=True, help="Streams to test on.")
@click.option("--workers", default=os.cpu_count(), show_default=True)
def main(out: Path, demo: bool, val: int, test: int, workers: int) -> None:
    """Render streams of several episodes with their annotations; existing streams are skipped."""
    out.mkdir(parents=True, exist_ok=True)
    if demo:
        return render_demo(out)
    work = [(str(out), split, number) for split, count in (("val", val), ("test", test)) for number in range(count)]
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        for line in pool.imap_unordered(render_stream, work):
            click.echo(line)


if __name__ == "__main__":
    main()
