"""CPU time on ten minutes of a still camera, and memory over an hour of a stream. Frame times are simulated.

python benchmarks/long_streams.py
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from common import write

import vlj_edge
from vlj_edge import Frame, Source
from vlj_edge.runtime.video.synthetic import SyntheticSource

MINUTE = 60.0


class Still(Source):
    """A still image with sensor noise, 480 x 640 at 30 frames a second; 32 noise samples repeat."""

    period = 1 / 30

    def __init__(self, seconds: float) -> None:
        self._count = round(seconds / self.period)
        rng = np.random.default_rng(0)
        picture = rng.integers(30, 220, (15, 20, 3)).repeat(32, 0).repeat(32, 1)
        self._images = [(picture + rng.normal(0, 3, picture.shape)).clip(0, 255).astype(np.uint8) for _ in range(32)]

    def frames(self) -> Iterator[Frame]:
        for number in range(self._count):
            yield Frame(number * self.period, self._images[number % 32])


class Slow(SyntheticSource):
    """Eight frames a second, to keep an hour short."""

    period = 1 / 8


def resident() -> float:
    """Return the resident memory of this process, MB."""
    fields = Path("/proc/self/statm").read_text(encoding="ascii").split()
    return int(fields[1]) * 4096 / 1e6


def still_camera() -> dict[str, Any]:
    seconds = 10 * MINUTE
    model = vlj_edge.load()
    started = time.process_time()
    run = model.narrate(Still(seconds))
    texts = [event.text for event in run]
    cpu = time.process_time() - started
    return {
        "seconds": seconds,
        "cpu_seconds": round(cpu, 2),
        "share_of_one_core": round(cpu / seconds, 5),
        "encoder_runs": run.totals.encoder_runs,
        "texts": len(texts),
    }


def an_hour() -> dict[str, Any]:
    model = vlj_edge.load()
    run = model.narrate(Slow(60 * MINUTE))
    memory: dict[int, float] = {}
    for event in run:
        memory[int(event.centre // MINUTE)] = round(resident(), 2)
    after = [value for minute, value in memory.items() if minute >= 5]
    return {
        "minutes": 60,
        "texts": run.totals.narrations,
        "encoder_runs": run.totals.encoder_runs,
        "megabytes_at_5_minutes": after[0],
        "megabytes_at_60_minutes": after[-1],
        "most_over_least": round(max(after) / min(after), 4),
        "by_minute": memory,
    }


def main() -> None:
    for name, measure in (("still camera", still_camera), ("an hour", an_hour)):
        found = measure()
        print(name, {key: value for key, value in found.items() if key != "by_minute"}, flush=True)
        write("runtime.json", {name: found}, "the programs in benchmarks/")


if __name__ == "__main__":
    main()
