"""Time that the pipeline adds to its engines: a window of embed() over the same engines called one after another.

python benchmarks/overhead.py [--bundle BUNDLE] [--windows 240] [--rounds 11] [--cpu]

Frames come from memory, so that neither side decodes video. The bare loop runs the vision encoder and the predictor
on inputs that are already in place, and reads the embedding; the pipeline also samples, gates and preprocesses. Gates
are off: both sides encode every window, and their embeddings are compared. A second figure divides the time of a run
by the time it spends inside its own engines' calls, which leaves out how much engines slow down while frames are
preprocessed beside them. --cpu measures CPU time alone, for a machine that others use too.

`vl-jepa-1.6b`: vision_encoder.py --keep FOLDER exports it at random weights, then
--bundle FOLDER/int8 --windows 2 --rounds 7.
"""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import click
import numpy as np
from common import in_turn, milliseconds, ratio, write

import vlj_edge
from vlj_edge import Frame, Model, Source, WindowEmbedding
from vlj_edge.runtime.video import preprocess as cpu_preprocess
from vlj_edge.runtime.video.preprocess import CpuPreprocessor, crop_and_resize
from vlj_edge.runtime.video.resize import resize, resize_with_pillow
from vlj_edge.runtime.video.synthetic import SyntheticSource


class MemorySource(Source):
    """Frames that are already in memory."""

    def __init__(self, frames: list[Frame], period: float) -> None:
        self._frames, self.period = frames, period

    def frames(self) -> Iterator[Frame]:
        yield from self._frames


def record_clips(
    model: Model, run: Callable[[], Iterable[WindowEmbedding]]
) -> tuple[list[np.ndarray], list[WindowEmbedding]]:
    """Return the pixels that the vision encoder is given during a run, and what the run yields."""
    encoder, clips = model.chain.vision.encoder, list[np.ndarray]()
    real = encoder.run

    def recording() -> None:
        clips.append(encoder.inputs["pixels"].copy())
        real()

    encoder.run = recording  # type: ignore[method-assign]
    items = list(run())
    encoder.run = real  # type: ignore[method-assign]
    return clips, items


def time_over_engines(model: Model, run: Callable[[], object]) -> float:
    """Return the seconds of a run over those inside its engines' calls.

    Both come from one run: between runs, the speed of a machine can vary by more than the pipeline adds.
    """
    encoder, _, predictor = model.chain.vision
    spent = 0.0

    def timed(call: Callable[[], None]) -> Callable[[], None]:
        def timing() -> None:
            nonlocal spent
            started = time.perf_counter()
            call()
            spent += time.perf_counter() - started

        return timing

    calls = [(engine, name, getattr(engine, name)) for engine in (encoder, predictor) for name in ("run", "wait")]
    for engine, name, call in calls:
        setattr(engine, name, timed(call))
    started = time.perf_counter()
    run()
    whole = time.perf_counter() - started
    for engine, name, call in calls:
        setattr(engine, name, call)
    return whole / spent


class Overhead:
    """The pipeline, and loops over its engines alone, on the same windows of a synthetic video."""

    def __init__(self, model: Model, windows: int) -> None:
        self.model, self.clip = model, model.manifest.clip
        samples = self.clip.frames + (windows - 1) * self.clip.stride
        self.period = 1 / self.clip.frames_per_second
        drawn = islice(SyntheticSource(samples / 4 + 1).frames(), 0, 7 * samples, 7)
        self.frames = [Frame(number * self.period, frame.image) for number, frame in enumerate(drawn)]
        self.clips, items = record_clips(model, self._embed)
        self.expected = [item.embedding for item in items]

    def _embed(self) -> Iterable[WindowEmbedding]:
        return self.model.embed(MemorySource(self.frames, self.period), every_window=True)

    def run_pipeline(self) -> None:
        for item in self._embed():
            _ = item.embedding

    def run_pipeline_with_pillow(self) -> None:
        cpu_preprocess.resize = resize_with_pillow
        self.run_pipeline()
        cpu_preprocess.resize = resize

    def check_bare(self) -> None:
        """Compare the embeddings of the bare loop with those of the pipeline, bit by bit."""
        encoder, _, predictor = self.model.chain.vision
        for pixels, embedding in zip(self.clips, self.expected, strict=True):
            encoder.inputs["pixels"][...] = pixels
            self._run_engines()
            np.testing.assert_array_equal(predictor.outputs["embedding"][0], embedding)

    def run_bare(self) -> None:
        for _ in self.clips:
            self._run_engines()

    def run_bare_with_pixels(self) -> None:
        """Run the bare loop and preprocess the new samples of each window, one after the other."""
        clip, preprocess = self.clip, self.model.manifest.preprocess
        pixels = CpuPreprocessor(self.model.chain.vision.encoder.inputs["pixels"], preprocess)
        crops = [crop_and_resize(frame.image, preprocess) for frame in self.frames[: clip.frames]]
        for number in range(len(self.clips)):
            if number:
                first = clip.frames + (number - 1) * clip.stride
                new = [crop_and_resize(f.image, preprocess) for f in self.frames[first : first + clip.stride]]
                crops = crops[clip.stride :] + new
            pixels.fill(crops)
            self._run_engines()

    def _run_engines(self) -> None:
        encoder, _, predictor = self.model.chain.vision
        encoder.run()
        predictor.run()
        predictor.wait()

    def bytes_kept_a_window(self) -> float:
        """Return how much memory a run leaves allocated, after a first one has set up what later ones share."""
        tracemalloc.start()
        self.run_pipeline()
        before = tracemalloc.take_snapshot()
        self.run_pipeline()
        grown = sum(stat.size_diff for stat in tracemalloc.take_snapshot().compare_to(before, "filename"))
        tracemalloc.stop()
        return round(grown / len(self.clips), 1)


def measure(overhead: Overhead, rounds: int) -> dict[str, Any]:
    overhead.check_bare()
    pipeline = overhead.run_pipeline
    bare, with_pixels = overhead.run_bare, overhead.run_bare_with_pixels
    seconds = in_turn(rounds, chain=pipeline, bare=bare, bare_with_pixels=with_pixels)
    ratios = [time_over_engines(overhead.model, pipeline) for _ in range(rounds)]
    count = len(overhead.clips)
    return {
        "windows": count,
        "rounds": rounds,
        **{f"{name}_ms": milliseconds(values, count) for name, values in seconds.items()},
        "chain_over_bare": ratio(seconds["chain"], seconds["bare"]),
        "chain_over_bare_with_pixels": ratio(seconds["chain"], seconds["bare_with_pixels"]),
        "chain_over_the_time_in_its_own_engines": {
            "ratio": round(float(np.median(ratios)), 5),
            "lowest": round(min(ratios), 5),
            "highest": round(max(ratios), 5),
        },
        "bytes_kept_a_window": overhead.bytes_kept_a_window(),
        "equivalence": "every embedding equal, bit by bit",
    }


def measure_cpu(overhead: Overhead, rounds: int) -> dict[str, Any]:
    """The same in CPU time of all threads, also with frames resized by Pillow."""
    overhead.check_bare()
    both = {"chain": overhead.run_pipeline, "chain_with_pillow": overhead.run_pipeline_with_pillow}
    cpu = in_turn(rounds, clock=time.process_time, **both, bare=overhead.run_bare)
    count = len(overhead.clips)
    return {
        "windows": count,
        "rounds": rounds,
        **{f"{name}_ms": milliseconds(values, count) for name, values in cpu.items()},
        **{f"{name}_over_bare": ratio(cpu[name], cpu["bare"]) for name in both},
        "equivalence": "every embedding of chain and bare equal, bit by bit",
    }


@click.command()
@click.option("--bundle", type=click.Path(path_type=Path))
@click.option("--windows", default=240, show_default=True)
@click.option("--rounds", default=11, show_default=True)
@click.option("--cpu", is_flag=True, help="CPU time alone, on one thread.")
def main(bundle: Path | None, windows: int, rounds: int, cpu: bool) -> None:
    model = vlj_edge.load(bundle, threads=1 if cpu else None)
    overhead = Overhead(model, windows)
    found = measure_cpu(overhead, rounds) if cpu else measure(overhead, rounds)
    print(found)
    name = f"overhead{' in CPU time' if cpu else ''}, {model.manifest.preset}"
    write("runtime.json", {name: found}, "the programs in benchmarks/")


if __name__ == "__main__":
    main()
