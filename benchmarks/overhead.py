"""What the chain adds to its engines: a window of the whole pipeline over the same engines called one after another.

python benchmarks/overhead.py [--bundle BUNDLE] [--windows 240] [--rounds 11]

Frames come from memory, so that neither side decodes video. The bare script runs the vision encoder and the predictor
on inputs that lie ready, and reads the embedding; the chain sees, gates, normalises and yields as well. Gates are off:
both sides encode every window. The embeddings are compared. A second figure is the time of the chain over what of it is
spent in the calls of its own engines: it leaves out what engines lose to the pixels that are made beside them.

`vl-jepa-1.6b`: vision_encoder.py --keep FOLDER exports it at random weights, then
--bundle FOLDER/int8 --windows 2 --rounds 7.
"""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import click
import numpy as np
from common import in_turn, milliseconds, ratio, write

from vlj_edge.bundle import nano_bundle
from vlj_edge.results import WindowEmbedding
from vlj_edge.runtime.model import Model
from vlj_edge.runtime.video.preprocess import CpuPreprocessor, crop_and_resize
from vlj_edge.runtime.video.source import Frame, Source
from vlj_edge.runtime.video.synthetic import SyntheticSource


class Memory(Source):
    """Frames that are there already."""

    def __init__(self, frames: list[Frame], period: float) -> None:
        self._frames, self.period = frames, period

    def frames(self) -> Iterator[Frame]:
        yield from self._frames


def encoded(
    model: Model, run: Callable[[], Iterable[WindowEmbedding]]
) -> tuple[list[np.ndarray], list[WindowEmbedding]]:
    """The pixels that the vision encoder gets in a run, and what comes out of it."""
    encoder, clips = model.chain.vision[0], list[np.ndarray]()
    real = encoder.run

    def recording() -> None:
        clips.append(encoder.inputs["pixels"].copy())
        real()

    encoder.run = recording  # type: ignore[method-assign]
    items = list(run())
    encoder.run = real  # type: ignore[method-assign]
    return clips, items


def inside(model: Model, run: Callable[[], object]) -> tuple[float, float]:
    """Seconds of a run, and those of them that pass inside its engines' calls: one clock, so that a machine whose speed
    comes and goes by more than the chain adds can still show it."""
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
    return whole, spent


@click.command()
@click.option("--bundle", type=click.Path(path_type=Path))
@click.option("--windows", default=240, show_default=True)
@click.option("--rounds", default=11, show_default=True)
def main(bundle: Path | None, windows: int, rounds: int) -> None:
    model = Model(bundle or nano_bundle())
    clip = model.manifest.clip
    samples = clip.frames + (windows - 1) * clip.stride
    period = 1 / clip.frames_per_second
    drawn = [frame for number, frame in enumerate(SyntheticSource(samples / 4 + 1).frames()) if number % 7 == 0][
        :samples
    ]
    frames = [Frame(number * period, frame.image) for number, frame in enumerate(drawn)]
    encoder, _, predictor = model.chain.vision
    clips, items = encoded(model, lambda: model.embed(Memory(frames, period), every_window=True))
    expected = [item.embedding for item in items]

    def chain() -> list[np.ndarray]:
        return [item.embedding for item in model.embed(Memory(frames, period), every_window=True)]

    def bare(check: bool = False) -> None:
        for number, pixels in enumerate(clips):
            if check:
                encoder.inputs["pixels"][...] = pixels
            encoder.run()
            predictor.run()
            predictor.wait()
            if check:
                np.testing.assert_array_equal(predictor.outputs["embedding"][0], expected[number])

    def bare_with_pixels() -> None:
        """The same, and the pixels are made as well: two new samples a window, one after the other."""
        pixels = CpuPreprocessor(encoder.inputs["pixels"], model.manifest.preprocess)
        pictures = [crop_and_resize(frame.image, model.manifest.preprocess) for frame in frames[: clip.frames]]
        for number in range(len(clips)):
            if number:
                first = clip.frames + (number - 1) * clip.stride
                new = [crop_and_resize(f.image, model.manifest.preprocess) for f in frames[first : first + clip.stride]]
                pictures = pictures[clip.stride :] + new
            pixels.fill(pictures)
            encoder.run()
            predictor.run()
            predictor.wait()

    bare(check=True)
    seconds = in_turn(rounds, chain=chain, bare=bare, bare_with_pixels=bare_with_pixels)
    shares = [whole / engines for whole, engines in (inside(model, chain) for _ in range(rounds))]
    tracemalloc.start()
    chain()  # what the first pass sets up is not a window's
    before = tracemalloc.take_snapshot()
    chain()
    after = tracemalloc.take_snapshot()
    grown = sum(stat.size_diff for stat in after.compare_to(before, "filename"))
    tracemalloc.stop()
    count = len(clips)
    found = {
        "windows": count,
        "rounds": rounds,
        "chain_ms": milliseconds(seconds["chain"], count),
        "bare_ms": milliseconds(seconds["bare"], count),
        "bare_with_pixels_ms": milliseconds(seconds["bare_with_pixels"], count),
        "chain_over_bare": ratio(seconds["chain"], seconds["bare"]),
        "chain_over_bare_with_pixels": ratio(seconds["chain"], seconds["bare_with_pixels"]),
        "chain_over_the_time_in_its_own_engines": {
            "ratio": round(float(np.median(shares)), 5),
            "lowest": round(min(shares), 5),
            "highest": round(max(shares), 5),
        },
        "bytes_kept_a_window": round(grown / count, 1),
        "equivalence": "every embedding equal, bit by bit",
    }
    print(found)
    name = model.manifest.preset
    write("runtime.json", {f"overhead, {name}": found}, "the programs in benchmarks/")


if __name__ == "__main__":
    main()
