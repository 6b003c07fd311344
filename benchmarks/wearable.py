"""What the vectors cost and are worth besides narration: memory, forms, questions, indexing.

python benchmarks/wearable.py [moments|forms|questions|indexing|memory ...]      needs the test streams of train_nano

moments    what vlj-edge search finds in the streams, beside exact comparison; how well moments are bounded
forms      which label is nearest, and which moment is found, with vectors in each form against float32
questions  one clip, eight questions against one
indexing   vlj-edge index over the bare engines on the same windows, with equal embeddings
memory     `embed` with a bank and a ring, one thread, over 100,000 windows of a drawn stream (half an hour); a camera's
           reader is a process of its own, and is not in it
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
from overhead import Memory, encoded
from tasks import TASKS

from vlj_edge.bundle import nano_bundle
from vlj_edge.results import Moment
from vlj_edge.runtime.embedding import quantize
from vlj_edge.runtime.embedding.labels import LabelBank, make_bank
from vlj_edge.runtime.embedding.quantize import FORMATS, read_basis
from vlj_edge.runtime.library import Store, index, local_encoder, search
from vlj_edge.runtime.model import Model
from vlj_edge.runtime.video.source import Frame
from vlj_edge.runtime.video.synthetic import SyntheticSource
from vlj_edge.runtime.video.uri import open_source

STREAMS = TRAIN_NANO / "data" / "streams" / "test"
DEMO = ROOT / "examples" / "media" / "demo.mp4"
WINDOWS = 100_000
THINGS = ("drawer", "door", "peg", "ball", "button", "nail", "cup", "lever")
Event = tuple[str, float, float]


def forms() -> dict[str, Any]:
    model = Model(nano_bundle())
    names, centres, rows = [], [], []
    wanted = events_by_caption()
    for path in sorted(STREAMS.glob("*.mp4")):
        for item in model.embed(path, query=model.manifest.labels.query):
            names.append(path.stem)
            centres.append(item.window.centre)
            rows.append(item.embedding)
    embeddings, bank = np.stack(rows), make_bank(model, [task.captions[0] for task in TASKS.values()])
    queries = {caption: model.embed_text(caption) for caption in wanted}
    where = (np.array(names), np.array(centres))
    nearest = (embeddings @ bank.embeddings.T).argmax(1)
    found: dict[str, Any] = {"windows": len(embeddings), "labels": len(bank.labels), "sentences": len(queries)}
    full = embeddings.shape[1]
    basis = read_basis(model.directory, model.manifest)
    for width, form in itertools.product((full, full // 2, full // 4), FORMATS):
        shorten = partial(quantize.shorten, width=width, basis=basis)
        packed = stored(embeddings, form, width, shorten)
        short = np.stack([shorten(row) for row in bank.embeddings])
        found[f"{form}, {width}"] = {
            "bytes": FORMATS[form].size(width),
            "top1_label_as_float32": round(float(((packed @ short.T).argmax(1) == nearest).mean()), 5),
            **retrieval(packed, {c: shorten(q) for c, q in queries.items()}, wanted, where),
        }
    return found


def stored(embeddings: np.ndarray, form: str, width: int, shorten: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """As they come back from a file."""
    each = FORMATS[form]
    return np.stack([each.unpack(each.pack(shorten(row)), width) for row in embeddings])


def retrieval(
    embeddings: np.ndarray,
    queries: dict[str, np.ndarray],
    wanted: dict[str, list[Event]],
    where: tuple[np.ndarray, np.ndarray],
) -> dict[str, float]:
    """Share of sentences for which the first window, and one of the first five, lies in an event of that sentence."""
    names, centres = where
    first, five = [], []
    for caption, query in queries.items():
        best = np.argsort(-(embeddings @ query))[:5]
        right = [
            any(n == names[row] and start <= centres[row] <= end for n, start, end in wanted[caption]) for row in best
        ]
        first.append(right[0])
        five.append(any(right))
    return {"r1": round(float(np.mean(first)), 4), "r5": round(float(np.mean(five)), 4)}


def moments() -> dict[str, Any]:
    """Each caption is searched for. A moment is right when the middle of its best window lies in an event of that
    caption; its bounds are as good as the overlap with that event is large (intersection over union)."""
    model = Model(nano_bundle())
    wanted = events_by_caption()
    with tempfile.TemporaryDirectory() as scratch:
        with Store(Path(scratch) / "store", model.manifest, write=True) as store:
            list(index(store, local_encoder(model, store.query, os.cpu_count() or 1), [STREAMS]))
        found: dict[str, Any] = {"sentences": len(wanted), "stored": len(store), "bounds": {}}
        queries = {caption: model.embed_text(caption) for caption in wanted}
        temperature = store.temperature
        for share in (0.9, 0.75, 0.5, 0.25, 0.1):  # how likely a window must be, against the best, to belong
            store.temperature = temperature * np.log(share) / np.log(0.5)
            overlaps, first, five = [], [], []
            for caption, query in queries.items():
                hits = search(store, query, top=5)
                right = [overlap(hit, wanted[caption]) for hit in hits]
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
        found |= exact_beside(store, queries)
    return found


def exact_beside(store: Store, queries: dict[str, np.ndarray]) -> dict[str, Any]:
    """Are the nearest windows those that comparing everything in float32 finds?"""
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
    wanted: dict[str, list[Event]] = {}
    for path in sorted(STREAMS.glob("*.json")):
        for event in json.loads(path.read_text(encoding="utf-8"))["events"]:
            for caption in event["captions"] if event["phase"] == "act" else ():
                wanted.setdefault(caption, []).append((path.stem, event["start"], event["end"]))
    return wanted


def overlap(moment: Moment, events: list[Event]) -> float | None:
    """Of the event that a moment's middle lies in; None: in none."""
    middle, name = (moment.best_start + moment.best_end) / 2, Path(moment.file).stem
    for stream, start, end in events:
        if stream == name and start <= middle <= end:
            shared = min(end, moment.end) - max(start, moment.start)
            return shared / (max(end, moment.end) - min(start, moment.start))
    return None


def clip_frames(model: Model) -> list[Frame]:
    """Those of one window of the demo, in memory."""
    clip = model.manifest.clip
    with open_source(DEMO) as source:
        frames = list(itertools.takewhile(lambda frame: frame.time < 12, source))
    step = 1 / clip.frames_per_second
    chosen = [min(frames, key=lambda frame: abs(frame.time - 9 - number * step)) for number in range(clip.frames)]
    return [Frame(number * step, frame.image) for number, frame in enumerate(chosen)]


def questions() -> dict[str, Any]:
    model = Model(nano_bundle())
    frames, period = clip_frames(model), 1 / model.manifest.clip.frames_per_second
    eight = [f"What is the robot doing with the {thing}?" for thing in THINGS]

    def ask(count: int) -> None:
        [answers] = model.ask(Memory(frames, period), eight[:count])
        assert answers.embeddings.shape[0] == count

    seconds = in_turn(41, one=partial(ask, 1), eight=partial(ask, 8))
    run = model.ask(Memory(frames, period), eight)
    [answers] = run
    alone = [next(iter(model.ask(Memory(frames, period), [question]))).embeddings[0] for question in eight]
    np.testing.assert_array_equal(answers.embeddings, np.stack(alone))
    return {
        "one_ms": milliseconds(seconds["one"]),
        "eight_ms": milliseconds(seconds["eight"]),
        "eight_over_one": ratio(seconds["eight"], seconds["one"]),
        "encoder_runs_for_eight": run.totals.encoder_runs,
        "embeddings_as_one_by_one": "equal bit by bit",
    }


def indexing() -> dict[str, Any]:
    model = Model(nano_bundle())
    encoder, _, predictor = model.chain.vision
    paths, query = sorted(STREAMS.glob("*.mp4"))[:4], model.manifest.labels.query
    clips, items = encoded(model, lambda: (item for path in paths for item in model.embed(path, query=query)))
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
                done = list(index(store, local_encoder(model, query, jobs=os.cpu_count() or 1), paths))
                assert sum(each.moments for each in done) == len(clips) == len(store)

        seconds = in_turn(5, bare=bare, index=whole)
    return {
        "videos": len(paths),
        "windows": len(clips),
        "bare_ms_a_window": milliseconds(seconds["bare"], len(clips)),
        "index_ms_a_window": milliseconds(seconds["index"], len(clips)),
        "speed_of_bare": ratio(seconds["bare"], seconds["index"]),
    }


class Slow(SyntheticSource):
    """Four frames a second: what the model samples, and no more to draw."""

    period = 1 / 4


_CHILD = "--memory-of-this-process"


def memory() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, __file__, _CHILD, scratch]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def memory_here(scratch: Path) -> None:
    """What vlj-edge embed --bank --ring --threads 1 does; its labels were made elsewhere."""
    from vlj_edge.runtime.embedding.novelty import NoveltyDetector, observe
    from vlj_edge.runtime.embedding.writers import RecordWriter

    model = Model(nano_bundle(), threads=1)
    width = model.manifest.embedding
    rows = np.random.default_rng(0).normal(size=(50, width)).astype(np.float32)
    bank = LabelBank(tuple(map(str, range(50))), rows / np.linalg.norm(rows, axis=1, keepdims=True), "")
    ring = RecordWriter(scratch / "ring", model.manifest, "int8", width, partial(quantize.shorten, width=width), 10_000)
    at: dict[int, float] = {}
    run = model.embed(Slow(WINDOWS / 2 + 2))
    for count, observation in enumerate(observe(run, bank, 0.0, NoveltyDetector(0.7, width)), 1):
        ring.write(observation)
        if count in (1_000, 10_000, WINDOWS):
            at[count] = round(resident(), 2)
        if count == WINDOWS:
            break
    run.close()
    found = {
        "windows": WINDOWS,
        "encoder_runs": run.totals.encoder_runs,
        "megabytes": at,
        "last_over_first": round(at[WINDOWS] / at[1_000], 4),
        "peak_megabytes": peak(),
        "real_time_factor": round(run.totals.real_time_factor, 1),
    }
    print(json.dumps(found))


def peak() -> float:
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
@click.option(_CHILD, "scratch", type=click.Path(path_type=Path), hidden=True)
def main(parts: tuple[str, ...], scratch: Path | None) -> None:
    if scratch is not None:
        return memory_here(scratch)
    for name in parts or PARTS:
        found = PARTS[name]()
        print(name, json.dumps(found, indent=2), flush=True)
        write("wearable.json", {name: found}, "python benchmarks/wearable.py")


if __name__ == "__main__":
    main()
