"""Render narration streams: several unseen episodes under one camera, with still moments between them.

Writes streams of random tasks to OUT/<split>/stream<k>.mp4 with annotated events in .json, on which the gates are
calibrated and tested; in other worlds (worlds.py) to OUT/<split>-<world>/; or, with --demo, OUT/demo.mp4 and
OUT/demo.json. Each episode has its own table, so there is a cut between episodes, inside a still moment.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import click
import numpy as np
from cameras import Camera, random_camera
from simulator import PHASES, SHORT_ACT, STILL, Simulator
from splits import DEMO_SEED, SEEDS_A_STREAM, STREAM_SEED
from tasks import TASKS, phase_texts, trained_tasks
from worlds import WORLDS, World, disturb

BASE_RATE = 8  # frames/s that the strides below are for
CAMERA = Camera(azimuth=141.0, elevation=-29.0, distance=1.15, lookat=(0.0, 0.68, 0.12), zone="training")
STORY = ("drawer-open", "button-press-topdown", "peg-insert-side", "door-close", "basketball", "hammer")
TRIES = 20  # seeds a scene may use
LONGEST_EPISODE = 480  # control steps; Meta-World allows 500
SHORTEST = 1.0  # s: a pause inside an action that is shorter belongs to the action
MOST_BYTES = 2_900_000


@dataclass(frozen=True)
class Style:
    """How scenes are joined into a stream. Spans are (shortest, longest) seconds."""

    size: int  # pixels
    before: tuple[float, float]  # a still picture before an episode
    after: tuple[float, float]
    pauses: float  # probability that an episode is held once in the middle
    pause: tuple[float, float]
    quality: range  # H.264 CRF, from the best on


DEMO = Style(384, (1.0, 1.75), (2.5, 4.0), 0.0, (0.0, 0.0), range(24, 38))
DEMO_WORLD = World(noise=2.5)
STREAM = Style(192, (0.5, 2.0), (1.0, 6.0), 0.4, (0.6, 2.5), range(20, 21))
CUT = (1.5, 4.0)  # s that a cut shows another scene
STREAMS_A_WORLD = 50  # numbers that a world may use of its split's, so that no two worlds share an episode
LENGTHS = (180.0, 300.0)  # s of a stream; the last episode may run over


@dataclass
class Scene:
    """Frames uint8 (n, size, size, 3) and phases (n,), still parts included."""

    task: str
    seed: int
    frames: np.ndarray
    phases: np.ndarray


def render_scene(
    task: str, style: Style, rng: np.random.Generator, camera: Camera, first_seed: int, world: World
) -> Scene:
    """Render the first seed whose expert succeeds; hold the first and last frame, and perhaps one in between."""
    # The speed of training: 2 control steps in 1/4 s where the act is short, 4 elsewhere.
    stride = (1 if f"{task}-v3" in SHORT_ACT else 2) * world.speed * BASE_RATE / world.rate
    most = round(160 * world.rate / BASE_RATE / min(world.speed, 1.0))
    most = min(most, int(LONGEST_EPISODE / stride))
    simulator = Simulator(f"{task}-v3", style.size * 3 // 2, style.size, max_frames=most)
    for seed in range(first_seed, first_seed + TRIES):
        episode = simulator.run(seed, stride, camera, vary=False)
        if episode.success.any():
            break
    simulator.close()
    before, after = (round(world.rate * world.stillness * rng.uniform(*span)) for span in (style.before, style.after))
    frames, phases = np.stack(episode.frames), episode.phase
    if style.pauses and rng.random() < style.pauses:
        pause = round(world.rate * world.stillness * rng.uniform(*style.pause))
        frames, phases = hold(frames, phases, int(rng.integers(len(phases))), pause)
    frames = np.concatenate([frames[:1].repeat(before, 0), frames, frames[-1:].repeat(after, 0)])
    phases = np.pad(phases, (before, after), constant_values=STILL)
    return Scene(task, seed, frames, smooth(phases, round(SHORTEST * world.rate)))


def hold(frames: np.ndarray, phases: np.ndarray, frame: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return frames and phases with one frame held for `count` more frames."""
    frames = np.insert(frames, [frame] * count, frames[frame], axis=0)
    return frames, np.insert(phases, [frame + 1] * count, STILL)


def smooth(phases: np.ndarray, shortest: int) -> np.ndarray:
    """Relabel pauses of fewer frames than `shortest` inside a motion with the phase before them."""
    phases = phases.copy()
    for start, end in runs(phases):
        if start > 0 and end < len(phases) and phases[start] == STILL and end - start < shortest:
            phases[start:end] = phases[start - 1]
    return phases


def cut_away(scenes: list[Scene], world: World, rng: np.random.Generator) -> None:
    """Show another scene's first picture for some seconds, now and then: what happened is suspended meanwhile."""
    for number, scene in enumerate(scenes):
        other = scenes[number - 1].frames[0]
        for _ in range(rng.poisson(len(scene.phases) / world.rate / world.cut_every)):
            at, count = int(rng.integers(len(scene.phases))), round(world.rate * rng.uniform(*CUT))
            scene.frames = np.insert(scene.frames, [at] * count, other, axis=0)
            scene.phases = np.insert(scene.phases, [at] * count, STILL)


def runs(phases: np.ndarray) -> list[tuple[int, int]]:
    """(start, end) of each stretch of one phase."""
    edges = np.flatnonzero(np.diff(phases)) + 1
    return list(zip([0, *edges.tolist()], [*edges.tolist(), len(phases)], strict=True))


def annotate(scenes: list[Scene], camera: Camera, world: World) -> dict:
    """Return the annotation: events in seconds (still parts joined across cuts), cuts, the camera and the world."""
    rate = world.rate
    events, cuts, frame = [], [], 0
    for scene in scenes:
        for start, end in runs(scene.phases):
            phase = int(scene.phases[start])
            texts = phase_texts(scene.task, phase)
            event = {"start": (frame + start) / rate, "end": (frame + end) / rate, "phase": PHASES[phase]}
            event |= {"task": None if phase == STILL else scene.task, "caption": texts[0], "captions": list(texts)}
            if events and phase == STILL and events[-1]["phase"] == "still":
                events[-1]["end"] = event["end"]
            else:
                events.append(event)
        frame += len(scene.phases)
        cuts.append(frame / rate)
    story = [{"task": s.task, "caption": TASKS[s.task].captions[0], "seed": s.seed} for s in scenes]
    header = {"frames_per_second": rate, "seconds": frame / rate, "camera": asdict(camera), "world": asdict(world)}
    return header | {"cuts": cuts[:-1], "story": story, "events": events}


def encode(frames: np.ndarray, path: Path, rate: float, quality: range) -> None:
    """Encode as H.264 with the first of these qualities that stays under MOST_BYTES, or with the only one."""
    for crf in quality:
        command = ["ffmpeg", "-y", "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgb24"]
        command += ["-s", f"{frames.shape[2]}x{frames.shape[1]}", "-r", f"{rate:g}", "-i", "-"]
        command += ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-preset", "slow", "-crf", str(crf)]
        command += ["-movflags", "+faststart", "-f", "mp4", str(path)]
        subprocess.run(command, input=frames.tobytes(), check=True)
        if len(quality) == 1 or path.stat().st_size <= MOST_BYTES:
            return
    raise click.ClickException(f"{path} stays over {MOST_BYTES} bytes: leave a task out of STORY")


def write_stream(
    path: Path, scenes: list[Scene], style: Style, camera: Camera, world: World, rng: np.random.Generator
) -> None:
    """Write a video, then its annotation: a stream with an annotation is complete."""
    frames = disturb(np.concatenate([scene.frames for scene in scenes]), world, rng)
    encode(frames, path, world.rate, style.quality)
    path.with_suffix(".json").write_text(json.dumps(annotate(scenes, camera, world), indent=1) + "\n")


def render_demo(out: Path) -> None:
    rng = np.random.default_rng(0)
    scenes = [render_scene(task, DEMO, rng, CAMERA, DEMO_SEED, DEMO_WORLD) for task in STORY]
    write_stream(out / "demo.mp4", scenes, DEMO, CAMERA, DEMO_WORLD, rng)


def render_stream(job: tuple[str, str, str, int]) -> str:
    """Render a stream of distinct trained tasks under one camera, in every other stream from a held-out zone."""
    out, split, name, number = Path(job[0]), *job[1:]
    world, worlds = WORLDS[name], list(WORLDS)
    path = out / (split if name == "own" else f"{split}-{name}") / f"stream{number}.mp4"
    if path.with_suffix(".json").exists():
        return f"{path}: there already"
    path.parent.mkdir(parents=True, exist_ok=True)
    first_seed = STREAM_SEED[split] + SEEDS_A_STREAM * (STREAMS_A_WORLD * worlds.index(name) + number)
    rng = np.random.default_rng(first_seed)
    camera = random_camera(rng, "between" if number % 2 else "training")
    frames_wanted, scenes = world.rate * rng.uniform(*LENGTHS), []
    for place, task in enumerate(rng.permutation(trained_tasks()).tolist()):
        scenes.append(render_scene(task, STREAM, rng, camera, first_seed + TRIES * place, world))
        if sum(len(scene.phases) for scene in scenes) >= frames_wanted:
            break
    if world.cut_every:
        cut_away(scenes, world, rng)
    style = replace(STREAM, quality=range(world.quality, world.quality + 1))
    write_stream(path, scenes, style, camera, world, rng)
    return f"{path}: {len(scenes)} episodes, {path.stat().st_size / 1e6:.1f} MB"


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("data/streams"), show_default=True)
@click.option("--demo", is_flag=True, help="Render the demonstration video instead of streams.")
@click.option("--world", "worlds", type=click.Choice([*WORLDS]), multiple=True, default=("own",), show_default=True)
@click.option("--val", default=40, show_default=True, help="Streams to choose thresholds on.")
@click.option("--test", default=24, show_default=True, help="Streams to test on.")
@click.option("--workers", default=os.cpu_count(), show_default=True)
def main(out: Path, demo: bool, worlds: tuple[str, ...], val: int, test: int, workers: int) -> None:
    """Render streams of several episodes with their annotations; existing streams are skipped."""
    out.mkdir(parents=True, exist_ok=True)
    if demo:
        return render_demo(out)
    counts = (("val", val), ("test", test))
    work = [(str(out), split, world, number) for split, count in counts for number in range(count) for world in worlds]
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        for line in pool.imap_unordered(render_stream, work):
            click.echo(line)


if __name__ == "__main__":
    main()
