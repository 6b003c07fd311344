"""Calls of a model elsewhere, and the quality of its words, for several ways to decide when to ask it.

python benchmarks/words.py --streams FOLDER --recordings FOLDER

Streams are made by examples/train_nano/make_stream.py --world own --world idle; the recordings are vtest.avi and
bikes.mp4, of which benchmarks/real_recordings.py says whence.

The model is a stand-in that answers with an annotated caption of what the middle window shows, after a delay in
simulated time. It is asked about every window, at regular times, when the picture differs from that of the last call
(by luminance, then by the colours of 16 x 16 cells, over several thresholds), and by narrate(words=...) as of a live
source: one call at a time, with and without caption memory, and with budgets. For the regular times any number of calls
may be made at once. The figures are those of benchmarks/budgets.py, of answers alone: the bundle's own texts, which
stand in meanwhile, do not count. "in a row" is one run over all streams of a world, one after the other, so that what
recurs in another stream is remembered.

Recordings without annotation, and pictures that nothing was chosen by, are about calls a minute alone, without a limit.
"""

from __future__ import annotations

import json
import multiprocessing
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from budgets import judged
from common import TRAIN_NANO, write
from other_worlds import Text

import vlj_edge.runtime.model as model_module
from vlj_edge import GateSettings, Model, Narration
from vlj_edge.bundle import nano_bundle, read_manifest
from vlj_edge.runtime.calibration.events import read_events
from vlj_edge.runtime.video.source import Frame, Source, WrappedSource
from vlj_edge.runtime.video.uri import open_source
from vlj_edge.runtime.words.narrator import Narrator
from vlj_edge.runtime.words.prompt import WordsContext
from vlj_edge.runtime.words.words import Words

DELAY = 2.0  # seconds until an answer
EVERY = (1.0, 2.0, 3.0, 5.0, 10.0)  # seconds between calls at regular times
PICTURES = (0.02, 0.03, 0.04, 0.06, 0.08, 0.12, 0.16)  # differences of pictures, 0..1
BUDGETS = (600, 300)  # calls an hour
FOLDERS = {"own": "test", "idle": "test-idle"}
REPEATED = {"vtest.avi": 2, "bikes.mp4": 6}  # times in a row, without annotation
RATE, RANDOM_SECONDS = 8.0, 180  # frames a second of random pictures, and how many seconds of them
NOTHING = {"start": 0.0, "end": 1e9, "captions": ["something"]}  # an annotation

Policies = dict[str, tuple[int, list[Text]]]  # calls, texts


@dataclass
class Simulated:
    """A model that answers from the annotation, DELAY seconds of the stream after it was asked."""

    events: Sequence[dict[str, Any]]

    def __post_init__(self) -> None:
        self.changed = threading.Condition()
        self.now = 0.0  # end of the latest window
        self.due: float | None = None  # of the call in progress
        self.taken = 0  # items that the narrator has finished with
        self.finished = 0  # calls whose answers it has taken
        self.known: dict[float, float] = {}  # begin of a change -> when its answer was there

    def caption(self, time: float) -> str:
        """Return what the annotation says at a time."""
        found = next((each for each in self.events if each["start"] <= time < each["end"]), self.events[-1])
        return str(found["captions"][0])

    def __call__(self, pictures: Sequence[np.ndarray], context: WordsContext) -> str:
        with self.changed:
            self.due = due = self.now + DELAY
            self.changed.notify_all()
            self.changed.wait_for(lambda: self.now >= due or self.now == np.inf)
        self.known[context.begins] = due
        return self.caption((context.start + context.end) / 2)

    def paced(self, items: Iterator[Any], half: float) -> Iterator[Any]:
        """Yield each item once the one before was handled, and the answers that were due by then."""
        for number, item in enumerate(items):
            with self.changed:
                self.changed.wait_for(lambda count=number: self.taken >= count)
                self.now = max(self.now, (item if isinstance(item, float) else item.last) + half)
                if self.due is not None and self.now >= self.due:
                    self.changed.notify_all()
                    self.changed.wait_for(lambda before=self.finished: self.finished > before)
            yield item
        with self.changed:
            self.now = np.inf
            self.changed.notify_all()


class Stepwise(Narrator):
    """Tells the simulation what it has finished with."""

    simulated: Simulated

    def _take(self, item: Any) -> Iterator[Narration]:
        yield from super()._take(item)
        with self.simulated.changed:
            if not hasattr(item, "reply"):
                # a call that this item began has to be known before the next item comes
                self.simulated.changed.wait_for(lambda: self._asked is None or self.simulated.due is not None)
                self.simulated.taken += 1
            self.simulated.changed.notify_all()

    def _finished(self, done: Any) -> Iterator[Narration]:
        with self.simulated.changed:
            self.simulated.due = None
        yield from super()._finished(done)
        with self.simulated.changed:
            if self._asked is not None:
                self.simulated.changed.wait_for(lambda: self.simulated.due is not None)
            self.simulated.finished += 1
            self.simulated.changed.notify_all()


class Live(WrappedSource):
    """A recording that counts as live."""

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self.live = True

    def frames(self) -> Iterator[Frame]:
        yield from self._source
        self.incomplete = self._source.incomplete


class Paced(Model):
    """A model whose windows come at the pace of the simulation."""

    simulated: Simulated

    def _changes(self, *arguments: Any, **named: Any) -> Any:
        clip = self.manifest.clip
        half = clip.frames / clip.frames_per_second / 2
        return self.simulated.paced(super()._changes(*arguments, **named), half)


class Played(Source):
    """Videos one after the other; each begins at one of `starts`."""

    def __init__(self, videos: Sequence[Path]) -> None:
        self._videos, self.starts = videos, list[float]()
        with open_source(str(videos[0])) as first:
            self.period = first.period

    def frames(self) -> Iterator[Frame]:
        start = 0.0
        for video in self._videos:
            self.starts.append(start)
            with open_source(str(video)) as source:
                for frame in source:
                    yield Frame(start + frame.time, frame.image)
                start += source.end


def narrated(model: Paced, source: Source, events: Sequence[dict[str, Any]], gates: GateSettings, limit: float) -> Any:
    """Return the calls and texts of narrate(words=...), as of a live source."""
    simulated = Simulated(events)
    model.simulated = Stepwise.simulated = simulated
    source = Live(source)
    run = model.narrate(source, gates=gates, words=Words(simulated, calls_per_hour=limit))
    texts = []
    for each in run:
        if not each.stand_in:
            known = simulated.known.get(each.begins, each.end)  # from memory: at once
            texts.append((each.begins, known, each.text))
    return run.totals.calls, texts


def record(video: Path) -> tuple[dict[str, Any], Policies]:
    """Return a stream's annotation, and what each way to decide asks and says."""
    annotation = json.loads(video.with_suffix(".json").read_text(encoding="utf-8"))
    model = paced_model()
    clip, gates = model.manifest.clip, read_manifest(nano_bundle()).gates
    half, step = clip.frames / clip.frames_per_second / 2, clip.stride / clip.frames_per_second
    centres = np.arange(half, annotation["seconds"] - half + 1e-6, step)
    says = Simulated(annotation["events"]).caption

    def asked(times: Sequence[float]) -> tuple[int, list[Text]]:
        return len(times), [(time, time + half + DELAY, says(time)) for time in times]

    found: Policies = {"every window": asked(list(centres))}
    for pause in EVERY:
        found[f"every {pause:g} s"] = asked(list(centres[:: max(1, round(pause / step))]))
    cells = pictures_at(model, video, centres)
    for least in PICTURES:
        found[f"pictures, {least:g}"] = asked(differing(cells, centres, least))
    no_memory = replace(gates, memory=replace(gates.memory, enabled=False))
    for name, used, limit in (
        ("meaning", no_memory, 0),
        ("meaning, memory", gates, 0),
        *((f"meaning, memory, {limit} an hour", gates, limit) for limit in BUDGETS),
    ):
        found[name] = narrated(model, open_source(str(video)), annotation["events"], used, limit)
    annotation["events"] = read_events(video.with_suffix(".json"))
    return annotation, found


def in_a_row(videos: Sequence[Path]) -> dict[str, Any]:
    """Return the figures of one run over all videos, with memory."""
    model, source = paced_model(), Played(videos)
    annotations = [json.loads(video.with_suffix(".json").read_text(encoding="utf-8")) for video in videos]
    starts = np.cumsum([0.0, *(annotation["seconds"] for annotation in annotations)])
    events = [
        event | {"start": start + event["start"], "end": start + event["end"]}
        for start, annotation in zip(starts[:-1], annotations, strict=True)
        for event in annotation["events"]
    ]
    calls, texts = narrated(model, source, events, read_manifest(nano_bundle()).gates, 0)
    if not np.allclose(source.starts, starts[:-1], atol=0.2):
        raise click.ClickException("the videos are not as long as their annotations say")
    streams = []
    for video, annotation, start, end in zip(videos, annotations, starts[:-1], starts[1:], strict=True):
        annotation["events"] = read_events(video.with_suffix(".json"))
        own = [(begin - start, known - start, text) for begin, known, text in texts if start <= begin < end]
        streams.append((annotation, own))
    return {"calls": calls, "calls_per_hour": round(calls / starts[-1] * 3600, 1)} | judged(streams)


def paced_model() -> Paced:
    """Return nano at the pace of a simulation."""
    model_module.Narrator = Stepwise  # type: ignore[misc]
    return Paced(nano_bundle(), threads=1, overlap=False)


def without_annotation(folder: Path) -> dict[str, Any]:
    """Return the calls a minute of recordings, and of pictures that nothing was chosen by."""
    sources = {name: lambda name=name: Played([folder / name] * REPEATED[name]) for name in REPEATED}
    sources |= {"noise": lambda: Random(1 / RATE), "another scene every 3 s": lambda: Random(3.0)}
    gates = read_manifest(nano_bundle()).gates
    no_memory = replace(gates, memory=replace(gates.memory, enabled=False))
    found = {}
    for name, source in sources.items():
        found[name] = {}
        for way, used in (("meaning", no_memory), ("meaning, memory", gates)):
            model, opened = paced_model(), source()
            calls, _ = narrated(model, opened, [NOTHING], used, 0)
            seconds = opened.end
            found[name] |= {"seconds": round(seconds, 1), way: round(calls / seconds * 60, 1)}
        print(name, found[name], flush=True)
    return found


class Random(Source):
    """Random coarse pictures, seeded, each of which stays for so many seconds."""

    period = 1 / RATE

    def __init__(self, stays: float) -> None:
        self._stays = stays

    def frames(self) -> Iterator[Frame]:
        random, until = np.random.default_rng(1), 0.0
        for number in range(int(RANDOM_SECONDS * RATE)):
            if number / RATE >= until:
                cells, until = random.integers(0, 256, (9, 12, 3), dtype=np.uint8), until + self._stays
                image = np.kron(cells, np.ones((20, 20, 1), np.uint8))
            yield Frame(number / RATE, image)


def pictures_at(model: Model, video: Path, centres: np.ndarray) -> list[np.ndarray]:
    """Return the pictures at these times as colours of 16 x 16 cells, float32 [16, 16, 3], 0..1."""
    cells, number = [], 0
    with open_source(str(video), sampled_at=model.manifest.clip.frames_per_second) as source:
        for frame in source:
            if number < len(centres) and frame.time >= centres[number] - 1e-3:
                height, width = (side // 16 * 16 for side in frame.image.shape[:2])
                blocks = frame.image[:height, :width].reshape(16, height // 16, 16, width // 16, 3)
                cells.append(blocks.mean(axis=(1, 3), dtype=np.float32) / 255)
                number += 1
    return cells


def differing(cells: list[np.ndarray], centres: np.ndarray, least: float) -> list[float]:
    """Return the times at which a picture differs from that of the last call: first cheaply, by the mean luminance of
    cells, a quarter of `least`, then by the root mean square of their colours."""
    times, last = [], None
    for picture, time in zip(cells, centres, strict=False):
        if last is not None:
            if np.abs(picture.mean(axis=2) - last.mean(axis=2)).mean() < least / 4:
                continue
            if np.sqrt(np.square(picture - last).mean()) < least:
                continue
        times.append(float(time))
        last = picture
    return times


def table(streams: list[tuple[dict[str, Any], Policies]]) -> dict[str, Any]:
    """Return the figures of each way to decide."""
    hours = sum(annotation["seconds"] for annotation, _ in streams) / 3600
    found = {}
    for name in streams[0][1]:
        calls = sum(policies[name][0] for _, policies in streams)
        figures = judged([(annotation, policies[name][1]) for annotation, policies in streams])
        found[name] = {"calls": calls, "calls_per_hour": round(calls / hours, 1)} | figures
    return found


@click.command()
@click.option("--count", default=8, show_default=True, help="Streams of each world.")
@click.option("--streams", type=click.Path(path_type=Path), default=TRAIN_NANO / "data/streams")
@click.option("--recordings", type=click.Path(path_type=Path, exists=True), help="Measure those, too.")
@click.option("--workers", default=1, show_default=True)
def main(count: int, streams: Path, recordings: Path | None, workers: int) -> None:
    """Measure, and write results/words.json."""
    found = {}
    for world, folder in FOLDERS.items():
        videos = sorted((streams / folder).glob("*.mp4"))[:count]
        if not videos:
            raise click.ClickException(f"{streams / folder} holds no streams: make_stream.py renders them")
        with multiprocessing.get_context("spawn").Pool(workers) as pool:
            found[world] = table(pool.map(record, videos, 1))
        found[world]["meaning, memory, in a row"] = in_a_row(videos)
        print(world, json.dumps(found[world], indent=1), flush=True)
    command, others = f"python benchmarks/words.py --count {count}", {}
    if recordings is not None:
        command, others = f"{command} --recordings FOLDER", {"calls_a_minute": without_annotation(recordings)}
    write("words.json", {"delay_seconds": DELAY, "worlds": found} | others, command)


if __name__ == "__main__":
    main()
