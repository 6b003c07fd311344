"""Quality against the number of texts: a budget, texts at regular times, other thresholds, and an oracle.

python benchmarks/budgets.py --streams FOLDER     (streams: examples/train_nano/make_stream.py --world own ...)

Four policies spend the same number of texts on annotated streams: the controller of runtime/gating/budget.py; a text
every so many seconds; the gates with thresholds scaled down and no budget; and an oracle that knows the events, and
tells the middles of those that differ most from the event before. Each stream is a run of its own. The figures are
CIDEr of the text nearest to each event's middle, CIDEr of the text that stands at the event's end, and the share of
time in which the standing text is true. Intervals are bootstrap intervals of 95 % over streams.
"""

from __future__ import annotations

import json
import multiprocessing
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from common import RESULTS, TRAIN_NANO, write
from gates import Recorder
from other_worlds import Text, ciders, true_seconds

from figures import QUANTILES, resample  # isort: skip (common adds its folder to the path)

from vlj_edge import WindowEmbedding
from vlj_edge.bundle import BudgetSettings, GateSettings, nano_bundle, read_manifest
from vlj_edge.runtime.calibration.events import AnnotatedEvent, read_events
from vlj_edge.runtime.evaluation.cider import Cider

BUDGETS = (45, 90, 180, 270, 360, 480, 600, 720, 900)  # texts an hour
SCALES = (1, 2, 4, 8, 12, 16, 20, 24)  # of the distance between thresholds and 1
OTHERS = ("slow", "night", "walker")  # worlds of which one stream each is used
POLICIES = ("budget", "regular times", "thresholds", "oracle")

Points = dict[str, list[list[Text]]]  # policy -> its points, texts in the order of time


def scaled(gates: GateSettings, scale: float) -> GateSettings:
    """Return gates for which only a larger change is one."""
    names = ("speak_below", "speak_below_at_rest", "forget_above", "same_above")
    lower = {name: max(-1.0, 1 - scale * (1 - getattr(gates.meaning, name))) for name in names}
    return replace(gates, meaning=replace(gates.meaning, **lower))


def record(video: Path) -> tuple[dict[str, Any], Points]:
    """Return a stream's annotation and what each policy says of it, point by point."""
    annotation = json.loads(video.with_suffix(".json").read_text(encoding="utf-8"))
    annotation["events"] = read_events(video.with_suffix(".json"))
    model, gates = Recorder(nano_bundle(), threads=1), read_manifest(nano_bundle()).gates
    every = list(model.embed(video, every_window=True))
    centres = np.array([item.window.centre for item in every])

    def narrated(settings: GateSettings) -> list[Text]:
        model.texts.clear()
        list(model.narrate(video, gates=settings, watch=model.watch))
        return list(model.texts)

    def decoded(times: np.ndarray) -> list[Text]:
        items = [every[int(np.abs(centres - time).argmin())] for time in times]
        return [(item.window.centre, item.window.end, model.chain.decode(item.embedding)[0]) for item in items]

    limits = [BudgetSettings(texts_per_hour=texts) for texts in BUDGETS]
    found = {"budget": [narrated(replace(gates, budget=limit)) for limit in limits]}
    found["thresholds"] = [narrated(scaled(gates, scale)) for scale in SCALES]
    counts, seconds = [len(texts) for texts in found["budget"]], annotation["seconds"]
    found["regular times"] = [decoded((np.arange(count) + 0.5) * seconds / count) for count in counts]
    middles = largest_first(annotation["events"], every)
    found["oracle"] = [decoded(np.sort(middles[:count])) for count in counts]
    return annotation, found


def largest_first(events: list[AnnotatedEvent], every: list[WindowEmbedding]) -> np.ndarray:
    """Return the events' middles, those first whose embedding differs most from that of the event before."""
    centres = np.array([item.window.centre for item in every])
    middles = np.array([(event.start + event.end) / 2 for event in events])
    embeddings = np.array([every[int(np.abs(centres - middle).argmin())].embedding for middle in middles])
    change = 1 - np.sum(embeddings[1:] * embeddings[:-1], axis=1)
    return middles[np.argsort(-np.append(np.inf, change))]


def judged(streams: list[tuple[dict[str, Any], list[Text]]]) -> dict[str, Any]:
    """Return the figures of one point: texts an hour, and their quality with intervals."""
    cider = Cider([event.captions for annotation, _ in streams for event in annotation["events"]])
    nearest, standing, true, spans, first = [], [], [], [], 0
    for annotation, texts in streams:
        events = annotation["events"]
        nearest.append(ciders(cider, first, events, texts))
        standing.append(standing_ciders(cider, first, events, texts))
        true.append(true_seconds(events, texts))
        spans.append(sum(event.end - event.start for event in events))
        first += len(events)
    hours = sum(annotation["seconds"] for annotation, _ in streams) / 3600
    counts = np.array([len(scores) for scores in nearest])
    return {
        "texts_per_hour": round(sum(len(texts) for _, texts in streams) / hours, 1),
        "cider_nearest": _interval(np.array([sum(scores) for scores in nearest]), counts),
        "cider_standing": _interval(np.array([sum(scores) for scores in standing]), counts),
        "truth": _interval(np.array(true), np.array(spans)),
    }


def standing_ciders(cider: Cider, first: int, events: list[AnnotatedEvent], texts: list[Text]) -> list[float]:
    """Return the CIDEr of each event, of the latest text at its end; 0 without one."""
    times = np.array([time for time, _, _ in texts])
    latest = [int(np.searchsorted(times, event.end, "right")) - 1 for event in events]
    return [cider.score(first + n, texts[index][2]) if index >= 0 else 0.0 for n, index in enumerate(latest)]


def _interval(sums: np.ndarray, sizes: np.ndarray) -> list[float]:
    """Return a mean over streams and the limits of its interval."""
    draws = resample(len(sums))
    low, high = np.quantile(sums[draws].sum(1) / sizes[draws].sum(1), QUANTILES)
    return [round(float(value), 3) for value in (sums.sum() / sizes.sum(), low, high)]


def curves(streams: list[tuple[dict[str, Any], Points]]) -> dict[str, list[dict[str, Any]]]:
    """Return the points of each policy, with what sets them."""
    set_by = {"thresholds": [("scale", scale) for scale in SCALES]}
    budgets = [("budget", budget) for budget in BUDGETS]
    return {
        policy: [
            {name: value} | judged([(annotation, found[policy][number]) for annotation, found in streams])
            for number, (name, value) in enumerate(set_by.get(policy, budgets))
        ]
        for policy in POLICIES
    }


def draw(found: dict[str, Any], path: Path) -> None:
    """Draw both figures over the rate, a column for each set of streams."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "budgets"  # the same figures give the same file
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, len(found), figsize=(9, 6.4), sharex=True, sharey="row", layout="constrained")
    figures = (("cider_standing", "CIDEr of the standing text"), ("truth", "standing text true, share of time"))
    for column, (name, each) in enumerate(found.items()):
        axes[0][column].set_title(f"{name}: {each['events']} events, {each['seconds'] / 60:.0f} min")
        for row, (key, label) in enumerate(figures):
            axis = axes[row][column]
            for policy, points in each["policies"].items():
                points = sorted(points, key=lambda point: point["texts_per_hour"])
                style = {"marker": "o", "markersize": 3, "linestyle": "--" if policy == "oracle" else "-"}
                axis.plot([p["texts_per_hour"] for p in points], [p[key][0] for p in points], label=policy, **style)
            axis.set_ylim(bottom=0)
            axis.grid(alpha=0.3)
            axis.set_ylabel(label if column == 0 else "")
            axis.set_xlabel("texts an hour" if row == 1 else "")
    axes[0][0].legend()
    figure.savefig(path, metadata={"Date": None})


@click.command()
@click.option("--count", default=4, show_default=True, help="Streams of the generator's own world, at most.")
@click.option("--streams", type=click.Path(path_type=Path), default=TRAIN_NANO / "data/streams")
@click.option("--workers", default=2, show_default=True)
def main(count: int, streams: Path, workers: int) -> None:
    """Measure all policies and write results/budgets.json and results/budgets.svg."""
    sets = {"own world": [("test", count)], "other worlds": [(f"test-{world}", 1) for world in OTHERS]}
    found: dict[str, Any] = {}
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        for name, folders in sets.items():
            videos = [video for folder, most in folders for video in sorted((streams / folder).glob("*.mp4"))[:most]]
            if not videos:
                raise click.ClickException(f"{streams} lacks streams: examples/train_nano/make_stream.py renders them")
            recorded = pool.map(record, videos, chunksize=1)
            found[name] = {
                "streams": [f"{video.parent.name}/{video.stem}" for video in videos],
                "seconds": round(sum(annotation["seconds"] for annotation, _ in recorded)),
                "events": sum(len(annotation["events"]) for annotation, _ in recorded),
                "policies": curves(recorded),
            }
            print(name, json.dumps(found[name]["policies"]), flush=True)
    write("budgets.json", found, f"python benchmarks/budgets.py --count {count}")
    draw(found, RESULTS / "budgets.svg")


if __name__ == "__main__":
    main()
