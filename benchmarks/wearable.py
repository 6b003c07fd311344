"""Costs and quality of embeddings without narration: search, storage formats, questions, indexing, memory.

python benchmarks/wearable.py [moments|forms|questions|indexing|memory ...]      needs the test streams of train_nano

moments    vlj-edge search on the streams: recall, the bounds of moments, and agreement with an exact search
forms      top-1 label and retrieval with embeddings stored in each format and width, against float32
questions  the time of eight questions about one clip against that of one
indexing   the time of vlj-edge index over that of the bare engines on the same windows, with equal embeddings
memory     resident memory of vlj-edge embed --bank --ring, one thread, over 100,000 windows of a synthetic stream (half
           an hour); the reader process of a camera is not included
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
from common import ROOT, TRAIN_NANO, in_turn, milliseconds, ratio, write
from long_streams import resident
from overhead import MemorySource, record_clips
from tasks import TASKS

import vlj_edge
from vlj_edge import Frame, LabelBank, Model, Moment, NoveltyDetector, Store
from vlj_edge.bundle import nano_bundle
from vlj_edge.runtime.embedding.quantize import FORMATS
from vlj_edge.runtime.embedding.writers import RecordWriter
from vlj_edge.runtime.library import local_encoder
from vlj_edge.runtime.video.synthetic import SyntheticSource

STREAMS = TRAIN_NANO / "data" / "streams" / "test"
DEMO = ROOT / "examples" / "media" / "demo.mp4"
WINDOWS = 100_000
THINGS = ("drawer", "door", "peg", "ball", "button", "nail", "cup", "lever")
Event = tuple[str, float, float]


def forms() -> dict[str, Any]:
    model = vlj_edge.load()
    names, centres, rows = [], [], []
    events = events_by_caption()
    for path in sorted(STREAMS.glob("*.mp4")):
        for item in model.embed(path, query=model.manifest.labels.query):
            names.append(path.stem)
            centres.append(item.window.centre)
            rows.append(item.embedding)
    embeddings, bank = np.stack(rows), vlj_edge.make_bank(model, [task.captions[0] for task in TASKS.values()])
    queries = {caption: model.embed_text(caption) for caption in events}
    where = (np.array(names), np.array(centres))
    nearest = (embeddings @ bank.embeddings.T).argmax(1)
    found: dict[str, Any] = {"windows": len(embeddings), "labels": len(bank.labels), "sentences": len(queries)}
    full = embeddings.shape[1]
    basis = vlj_edge.read_basis(model.directory, model.manifest)
    for width, form in itertools.product((full, full // 2, full // 4), FORMATS):
        shorten = partial(vlj_edge.shorten, width=width, basis=basis)
        packed = quantized(embeddings, form, width, shorten)
        short = np.stack([shorten(row) for row in bank.embeddings])
        found[f"{form}, {width}"] = {
            "bytes": FORMATS[form].size(width),
            "top1_label_as_float32": round(float(((packed @ short.T).argmax(1) == nearest).mean()), 5),
            **retrieval(packed, {c: shorten(q) for c, q in queries.items()}, events, where),
        }
    return found


def quantized(embeddings: np.ndarray, name: str, width: int, shorten: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Return the embeddings as they are read back from a file in a format."""
    stored = FORMATS[name]
    return np.stack([stored.unpack(stored.pack(shorten(row)), width) for row in embeddings])


def retrieval(
    embeddings: np.ndarray,
    queries: dict[str, np.ndarray],
    events: dict[str, list[Event]],
    where: tuple[np.ndarray, np.ndarray],
) -> dict[str, float]:
    """Return recall at 1 and 5: the share of sentences with one of their events among the nearest windows."""
    names, centres = where
    first, five = [], []
    for caption, query in queries.items():
        best = np.argsort(-(embeddings @ query))[:5]
        right = [
            any(n == names[row] and start <= centres[row] <= end for n, start, end in events[caption]) for row in best
        ]
        first.append(right[0])
        five.append(any(right))
    return {"r1": round(float(np.mean(first)), 4), "r5": round(float(np.mean(five)), 4)}


def moments() -> dict[str, Any]:
    """Search for each caption. A moment is right if the middle of its best window lies in an event of that caption; its
    bounds are judged by their intersection over union with that event."""
    model = vlj_edge.load()
    events = events_by_caption()
    with tempfile.TemporaryDirectory() as scratch:
        with Store(Path(scratch) / "store", model.manifest, write=True) as store:
            list(vlj_edge.index(store, local_encoder(model, store.query, os.cpu_count() or 1), [STREAMS]))
        found: dict[str, Any] = {"sentences": len(events), "stored": len(store), "bounds": {}}
        queries = {caption: model.embed_text(caption) for caption in events}
        temperature = store.temperature
        for share in (0.9, 0.75, 0.5, 0.25, 0.1):  # least probability of a window, as a share of that of the best
            store.temperature = temperature * np.log(share) / np.log(0.5)
            overlaps, first, five = [], [], []
            for caption, query in queries.items():
                hits = vlj_edge.search(store, query, top=5)
                right = [overlap(hit, events[caption]) for hit in hits]
                first.append(right[0] is not None)
                five.append(any(each is not None for each in right))
                overlaps += [each for each in right if each is not None]
            found["bounds"][str(share)] = {
                "r1": round(float(np.mean(first)), 4),
                "r5": round(float(np.mean(five)), 4),
                "overlap": round(float(np.mean(overlaps)), 4),
                "overlap_above_half": round(float(np.mean(np.array(overlaps) > 0.5)), 4),
            }
        store.temperature = temperature
        found |= compare_with_exact_search(store, queries)
    return found


def compare_with_exact_search(store: Store, queries: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return the share of the ten nearest windows that an exact search in float32 finds too."""
    rows = store._table.to_arrow()
    vectors = np.stack(rows["embedding"].to_numpy(zero_copy_only=False)).astype(np.float32)
    places = list(zip(rows["path"].to_pylist(), rows["number"].to_pylist(), strict=True))
    same = []
    for query in queries.values():
        order = np.argsort(-(vectors @ query) / np.linalg.norm(vectors, axis=1))[:10]
        hits = {(hit.path, hit.number) for hit in store.nearest(query, 10)}
        same.append(len(hits & {places[row] for row in order}) / 10)
    return {"nearest_ten_as_exact": round(float(np.mean(same)), 4)}


def events_by_caption() -> dict[str, list[Event]]:
    events: dict[str, list[Event]] = {}
    for path in sorted(STREAMS.glob("*.json")):
        for event in json.loads(path.read_text(encoding="utf-8"))["events"]:
            for caption in event["captions"] if event["phase"] == "act" else ():
                events.setdefault(caption, []).append((path.stem, event["start"], event["end"]))
    return events


def overlap(moment: Moment, events: list[Event]) -> float | None:
    """Return the intersection over union with the event that the best window's middle lies in; None if in none."""
    middle, name = (moment.best_start + moment.best_end) / 2, Path(moment.file).stem
    for stream, start, end in events:
        if stream == name and start <= middle <= end:
            shared = min(end, moment.end) - max(start, moment.start)
            return shared / (max(end, moment.end) - min(start, moment.start))
    return None


def clip_frames(model: Model) -> list[Frame]:
    """Return the frames of one window of the demo."""
    clip = model.manifest.clip
    with vlj_edge.open_source(DEMO) as source:
        frames = list(itertools.takewhile(lambda frame: frame.time < 12, source))
    step = 1 / clip.frames_per_second
    chosen = [min(frames, key=lambda frame: abs(frame.time - 9 - number * step)) for number in range(clip.frames)]
    return [Frame(number * step, frame.image) for number, frame in enumerate(chosen)]


def questions() -> dict[str, Any]:
    model = vlj_edge.load()
    frames, period = clip_frames(model), 1 / model.manifest.clip.frames_per_second
    eight = [f"What is the robot doing with the {thing}?" for thing in THINGS]

    def ask(count: int) -> None:
        [answers] = model.ask(MemorySource(frames, period), eight[:count])
        assert answers.embeddings.shape[0] == count

    seconds = in_turn(41, one=partial(ask, 1), eight=partial(ask, 8))
    run = model.ask(MemorySource(frames, period), eight)
    [answers] = run
    alone = [next(iter(model.ask(MemorySource(frames, period), [question]))).embeddings[0] for question in eight]
    np.testing.assert_array_equal(answers.embeddings, np.stack(alone))
    return {
        "one_ms": milliseconds(seconds["one"]),
        "eight_ms": milliseconds(seconds["eight"]),
        "eight_over_one": ratio(seconds["eight"], seconds["one"]),
        "encoder_runs_for_eight": run.totals.encoder_runs,
        "embeddings_as_one_by_one": "equal bit by bit",
    }


def indexing() -> dict[str, Any]:
    model = vlj_edge.load()
    encoder, _, predictor = model.chain.vision
    paths, query = sorted(STREAMS.glob("*.mp4"))[:4], model.manifest.labels.query
    clips, items = record_clips(model, lambda: (item for path in paths for item in model.embed(path, query=query)))
    expected = [item.embedding for item in items if item.encoded]

    def bare() -> None:
        for pixels, embedding in zip(clips, expected, strict=True):
            encoder.inputs["pixels"][...] = pixels
            encoder.run()
            predictor.run()
            predictor.wait()
            np.testing.assert_array_equal(predictor.outputs["embedding"][0], embedding)

    with tempfile.TemporaryDirectory() as scratch:
        numbers = itertools.count()

        def whole() -> None:
            with Store(Path(scratch) / str(next(numbers)), model.manifest, query, write=True) as store:
                done = list(vlj_edge.index(store, local_encoder(model, query, jobs=os.cpu_count() or 1), paths))
                assert sum(each.moments for each in done) == len(clips) == len(store)

        seconds = in_turn(5, bare=bare, index=whole)
    return {
        "videos": len(paths),
        "windows": len(clips),
        "bare_ms_a_window": milliseconds(seconds["bare"], len(clips)),
        "index_ms_a_window": milliseconds(seconds["index"], len(clips)),
        "speed_of_bare": ratio(seconds["bare"], seconds["index"]),
    }


class SlowSource(SyntheticSource):
    """Four frames a second, the rate that the model samples at, so that none is drawn in vain."""

    period = 1 / 4


_IN_CHILD = "--memory-of-this-process"


def memory() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, __file__, _IN_CHILD, scratch]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def print_own_memory(scratch: Path) -> None:
    """Do what vlj-edge embed --bank --ring --threads 1 does, with random label embeddings; print the memory used."""
    model = Model(nano_bundle(), threads=1)
    width = model.manifest.embedding
    rows = np.random.default_rng(0).normal(size=(50, width)).astype(np.float32)
    bank = LabelBank(tuple(map(str, range(50))), rows / np.linalg.norm(rows, axis=1, keepdims=True), "")
    ring = RecordWriter(scratch / "ring", model.manifest, "int8", width, partial(vlj_edge.shorten, width=width), 10_000)
    resident_after: dict[int, float] = {}
    run = model.embed(SlowSource(WINDOWS / 2 + 2))
    for count, observation in enumerate(vlj_edge.observe(run, bank, 0.0, NoveltyDetector(0.7, width)), 1):
        ring.write(observation)
        if count in (1_000, 10_000, WINDOWS):
            resident_after[count] = round(resident(), 2)
        if count == WINDOWS:
            break
    run.close()
    found = {
        "windows": WINDOWS,
        "encoder_runs": run.totals.encoder_runs,
        "megabytes": resident_after,
        "last_over_first": round(resident_after[WINDOWS] / resident_after[1_000], 4),
        "peak_megabytes": peak(),
        "real_time_factor": round(run.totals.real_time_factor, 1),
    }
    print(json.dumps(found))


def peak() -> float:
    """Return the peak resident memory of this process, MB."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    [line] = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return round(int(line.split()[1]) * 1024 / 1e6, 1)


PARTS: dict[str, Callable[[], dict[str, Any]]] = {
    "moments": moments,
    "forms": forms,
    "questions": questions,
    "indexing": indexing,
    "memory": memory,
}


@click.command()
@click.argument("parts", nargs=-1, type=click.Choice(list(PARTS)))
@click.option(_IN_CHILD, "scratch", type=click.Path(path_type=Path), hidden=True)
def main(parts: tuple[str, ...], scratch: Path | None) -> None:
    if scratch is not None:
        return print_own_memory(scratch)
    for name in parts or PARTS:
        found = PARTS[name]()
        print(name, json.dumps(found, indent=2), flush=True)
        write("wearable.json", {name: found}, "python benchmarks/wearable.py")


if __name__ == "__main__":
    main()
