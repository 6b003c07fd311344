"""The live gates in worlds that they were not chosen in: quality, cost and delay against decoding once a second.

python benchmarks/other_worlds.py      (streams: examples/train_nano/make_stream.py --world own --world jitter ...)

A world is a way of filming the same simulator (examples/train_nano/worlds.py). The gates' settings were chosen on the
validation streams of the worlds in CHOSEN_ON; the streams here are test streams, and the other worlds had no validation
streams. Intervals are bootstrap intervals of 95 % over streams.
"""

from __future__ import annotations

import json
import multiprocessing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from common import TRAIN_NANO, write
from gates import Recorder

from figures import QUANTILES, resample  # isort: skip (common adds its folder to the path)
from worlds import CHOSEN_ON, WORLDS  # isort: skip

from vlj_edge.bundle import nano_bundle
from vlj_edge.runtime.calibration.events import AnnotatedEvent, read_events
from vlj_edge.runtime.evaluation.cider import Cider
from vlj_edge.runtime.evaluation.narration import STEP, evenly, nearest_scores, truths

Text = tuple[float, float, str]  # time it is dated from, end of the latest window when it was made, text
FIRST = {"walker": 6}  # number of a world's first stream: walker's six before it had been looked at (docs/evidence.md)
DATED_BACK = 0.5  # s: a text of once a second is truest if dated that much before the centre of its window


@dataclass(frozen=True)
class Stream:
    """What was said of one stream, live and once a second, and what it cost."""

    events: list[AnnotatedEvent]
    live: list[Text]
    once_a_second: list[Text]
    seconds: float
    windows: int
    encoder_runs: int
    decoder_runs: int
    narrations: int


def record(video: Path) -> Stream:
    """Narrate a stream with the bundle's gates, and decode it once a second."""
    model = Recorder(nano_bundle(), threads=1)
    annotation = json.loads(video.with_suffix(".json").read_text(encoding="utf-8"))
    run = model.narrate(video, watch=model.watch)
    list(run)
    every = list(model.embed(video, every_window=True))
    centres = np.array([item.window.centre for item in every])
    seconds = annotation["seconds"]
    middles = [every[index] for index in evenly(centres, 0, seconds, max(1, round(seconds)))]
    once = [(item.window.centre, item.window.end, model.chain.decode(item.embedding)[0]) for item in middles]
    totals = run.totals
    counts = (totals.windows, totals.encoder_runs, totals.decoder_runs, totals.narrations)
    return Stream(read_events(video.with_suffix(".json")), list(model.texts), once, seconds, *counts)


def ciders(cider: Cider, first: int, events: list[AnnotatedEvent], texts: list[Text]) -> list[float]:
    """Return the CIDEr of each event: of the text whose date is nearest to the event's middle."""
    return nearest_scores(cider, first, events, [(date, text) for date, _, text in texts])


def true_seconds(events: list[AnnotatedEvent], texts: list[Text]) -> float:
    """Return for how many seconds the latest text is one of the captions of what happens."""
    return sum(truths(events, [(date, text) for date, _, text in texts])) * STEP


def delays(events: list[AnnotatedEvent], texts: list[Text]) -> list[float | None]:
    """Return for each event the seconds from its start to its first text; None if it has none."""
    found: list[float | None] = []
    for event in events:
        known = [known for date, known, _ in texts if event.start <= date < event.end]
        found.append(min(known) - event.start if known else None)
    return found


def summary(streams: list[Stream]) -> dict[str, Any]:
    """Return the figures of one world."""
    cider = Cider([event.captions for stream in streams for event in stream.events])
    firsts = np.cumsum([0, *(len(stream.events) for stream in streams)])
    live, once = (
        [ciders(cider, int(first), s.events, getattr(s, name)) for first, s in zip(firsts, streams, strict=False)]
        for name in ("live", "once_a_second")
    )
    true = np.array([[true_seconds(s.events, s.live), true_seconds(s.events, s.once_a_second)] for s in streams])
    late = [delay for stream in streams for delay in delays(stream.events, stream.live)]
    back = sum(
        true_seconds(s.events, [(at - DATED_BACK, known, text) for at, known, text in s.once_a_second]) for s in streams
    )
    spans = np.array([sum(event.end - event.start for event in s.events) for s in streams])
    sums = np.array([[sum(a), sum(b)] for a, b in zip(live, once, strict=True)])
    draws = resample(len(streams))
    ratios = sums[draws, 0].sum(1) / sums[draws, 1].sum(1)
    points = 100 * (true[draws, 0].sum(1) - true[draws, 1].sum(1)) / spans[draws].sum(1)
    seconds, windows = sum(s.seconds for s in streams), sum(s.windows for s in streams)
    spoken = [delay for delay in late if delay is not None]
    return {
        "streams": len(streams),
        "seconds": round(seconds),
        "events": len(late),
        "cider_once_a_second": round(float(sums[:, 1].sum() / len(late)), 3),
        "cider_ratio": round(float(sums[:, 0].sum() / sums[:, 1].sum()), 3),
        "cider_ratio_interval": [round(float(value), 3) for value in np.quantile(ratios, QUANTILES)],
        "truth_once_a_second": round(float(true[:, 1].sum() / spans.sum()), 3),
        "truth_once_a_second_dated_back": round(float(back / spans.sum()), 3),
        "truth_points": round(float(100 * (true[:, 0].sum() - true[:, 1].sum()) / spans.sum()), 1),
        "truth_points_interval": [round(float(value), 1) for value in np.quantile(points, QUANTILES)],
        "events_missed": round(1 - len(spoken) / len(late), 3),
        "delay_p50": round(float(np.quantile(spoken, 0.5)), 2),
        "delay_p95": round(float(np.quantile(spoken, 0.95)), 2),
        "texts_saving": round(seconds / max(1, sum(s.narrations for s in streams)), 2),
        "decoder_saving": round(seconds / max(1, sum(s.decoder_runs for s in streams)), 2),
        "encoder_saving": round(windows / max(1, sum(s.encoder_runs for s in streams)), 2),
    }


def videos_of(folder: Path) -> list[Path]:
    """Return the annotated streams of a folder in the order of their numbers."""
    videos = [video for video in folder.glob("stream*.mp4") if video.with_suffix(".json").exists()]
    return sorted(videos, key=lambda video: int(video.stem.removeprefix("stream")))


@click.command()
@click.option("--count", default=12, show_default=True, help="Streams of each world, at most.")
@click.option("--streams", type=click.Path(path_type=Path), default=TRAIN_NANO / "data/streams")
@click.option("--workers", default=2, show_default=True)
def main(count: int, streams: Path, workers: int) -> None:
    """Measure every world whose test streams are there, and write results/worlds.json."""
    found: dict[str, Any] = {}
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        for world in WORLDS:
            folder = streams / ("test" if world == "own" else f"test-{world}")
            videos = videos_of(folder)[FIRST.get(world, 0) :][:count]
            if not videos:
                continue
            found[world] = {"chosen_on": world in CHOSEN_ON} | summary(pool.map(record, videos, chunksize=1))
            print(world, found[world], flush=True)
    if not found:
        raise click.ClickException(f"{streams} holds no test streams: examples/train_nano/make_stream.py renders them")
    write("worlds.json", {"worlds": found}, f"python benchmarks/other_worlds.py --count {count}")


if __name__ == "__main__":
    main()
