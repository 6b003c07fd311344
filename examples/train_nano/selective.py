"""The selective-decoding curve: quality of a narration over how often the decoder runs. Adds it to nano-eval.json.

Uniform decoding, the paper's offline Ward segments and an oracle against the live gate, whose thresholds come with the
bundle (calibrate_gates.py chose them on other streams). Intervals are bootstrap intervals over streams.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
from figures import QUANTILES, resample
from policies import live, oracle, uniform, uniform_remembered, ward
from provenance import add_to, provenance
from recordings import Decode, Judge, Recording, TextDecoder, record_all
from rich.console import Console

import vlj_edge
from vlj_edge.bundle import CaptionMemorySettings, GateSettings, seal
from vlj_edge.export.weights.locations import MODEL_FILE

RATES = (2.0, 1.0, 0.7, 0.5, 0.35, 0.25, 0.18, 0.1, 0.05, 0.02, 0.01)  # decodes a second, the paper's range
console = Console(stderr=True)


def summary(scores: list[np.ndarray], runs: Sequence[int], recordings: Sequence[Recording]) -> dict[str, Any]:
    """Return CIDEr over all events and decodes a second, with a bootstrap interval over streams."""
    total, count = np.array([s.sum() for s in scores]), np.array([len(s) for s in scores])
    seconds, runs = np.array([recording.seconds for recording in recordings]), np.array(runs)
    draws = resample(len(recordings))
    low, high = np.quantile(total[draws].sum(1) / count[draws].sum(1), QUANTILES)
    figures = {"cider": total.sum() / count.sum(), "low": low, "high": high, "rate": runs.sum() / seconds.sum()}
    return {key: round(float(value), 4) for key, value in figures.items()}


def curve(
    recordings: Sequence[Recording], judge: Judge, policy: Callable[[Recording, float], list[Decode]]
) -> list[dict[str, Any]]:
    points = []
    for rate in RATES:
        decodes = [policy(recording, rate) for recording in recordings]
        scores = [judge.scores(r, d) for r, d in zip(recordings, decodes, strict=True)]
        points.append(summary(scores, [len(d) for d in decodes], recordings))
    return points


def oracle_point(recordings: Sequence[Recording], judge: Judge, decoder: TextDecoder, average: bool) -> dict[str, Any]:
    decodes = [oracle(recording, decoder, average) for recording in recordings]
    scores = [judge.scores(r, d) for r, d in zip(recordings, decodes, strict=True)]
    return summary(scores, [len(d) for d in decodes], recordings)


def uniform_point(
    recordings: Sequence[Recording], judge: Judge, decoder: TextDecoder, memory: CaptionMemorySettings
) -> dict[str, Any]:
    """Score decoding once a second with the caption memory and no other gate. The rate is that of decoder runs."""
    found = [uniform_remembered(recording, decoder, 1.0, memory) for recording in recordings]
    scores = [judge.scores(r, decodes) for r, (decodes, _) in zip(recordings, found, strict=True)]
    return summary(scores, [len(decodes) - remembered for decodes, remembered in found], recordings)


def live_point(
    recordings: Sequence[Recording], judge: Judge, decoder: TextDecoder, gates: GateSettings
) -> dict[str, Any]:
    """Score the bundle's gate, with and without the caption memory, and its delay after the start of an event."""
    found = [live(recording, decoder, gates) for recording in recordings]
    scores = [judge.scores(r, decodes) for r, (decodes, _, _) in zip(recordings, found, strict=True)]
    point = summary(scores, [len(decodes) for decodes, _, _ in found], recordings)
    runs = sum(len(decodes) - remembered for decodes, _, remembered in found)
    seconds = sum(recording.seconds for recording in recordings)
    point["decoder_runs_a_second_with_memory"] = round(runs / seconds, 4)
    delays, events = [], 0
    for recording, (decodes, available_at, _) in zip(recordings, found, strict=True):
        centres = np.array([time for time, _ in decodes])
        for event in recording.events:
            inside = np.flatnonzero((centres >= event.start) & (centres < event.end))
            delays += [available_at[inside[0]] - event.start] if len(inside) else []
            events += 1
    p50, p95 = np.quantile(delays, (0.5, 0.95))
    delay = {"p50": round(float(p50), 2), "p95": round(float(p95), 2), "events": events, "spoken_of": len(delays)}
    return point | {"delay_seconds": delay}


def rate_at(points: list[dict[str, Any]], cider: float) -> float | None:
    """Return the lowest rate at which a curve reaches this CIDEr, interpolated linearly; None if it never does."""
    rising = sorted(points, key=lambda point: point["rate"])
    for before, after in zip([None, *rising], rising, strict=False):
        if after["cider"] >= cider:
            if before is None:
                return float(after["rate"])
            share = (cider - before["cider"]) / (after["cider"] - before["cider"])
            return float(before["rate"] + share * (after["rate"] - before["rate"]))
    return None


def narration(recordings: Sequence[Recording], decoder: TextDecoder, gates: GateSettings) -> dict[str, Any]:
    """Return the whole report on the streams."""
    judge = Judge(recordings)
    seconds, events = sum(r.seconds for r in recordings), sum(len(r.events) for r in recordings)
    windows = sum(len(r.centres) for r in recordings)
    policies: dict[str, Callable[[Recording, float], list[Decode]]] = {}
    for name, policy in (("uniform", uniform), ("ward", ward)):
        for suffix, average in (("", False), ("_averaged", True)):
            policies[name + suffix] = partial(_at_rate, policy, decoder, average)
    report: dict[str, Any] = {
        "streams": len(recordings),
        "seconds": round(seconds, 1),
        "events": events,
        "events_a_second": round(events / seconds, 4),
        "mean_event_seconds": round(seconds / events, 2),
        "windows_encoded_with_scene_gate": round(sum(r.encoder_runs for r in recordings) / windows, 4),
        "curves": {name: curve(recordings, judge, policy) for name, policy in policies.items()},
        "oracle": oracle_point(recordings, judge, decoder, average=False),
        "oracle_averaged": oracle_point(recordings, judge, decoder, average=True),
        "live_gate": live_point(recordings, judge, decoder, gates),
    }
    uniform_1hz = next(point for point, rate in zip(report["curves"]["uniform"], RATES, strict=True) if rate == 1.0)
    gate = report["live_gate"]
    report["uniform_1hz_cider"] = uniform_1hz["cider"]
    report["live_gate_reaches_uniform_1hz"] = gate["cider"] >= uniform_1hz["cider"]
    report["live_gate_saving"] = round(uniform_1hz["rate"] / gate["rate"], 3)
    report["live_gate_saving_with_memory"] = round(uniform_1hz["rate"] / gate["decoder_runs_a_second_with_memory"], 3)
    report["uniform_1hz_with_memory"] = uniform_point(recordings, judge, decoder, gates.memory)
    report["bound_of_saving"] = round(uniform_1hz["rate"] * seconds / events, 3)
    for name in ("uniform_averaged", "ward", "ward_averaged"):
        rate = rate_at(report["curves"][name], uniform_1hz["cider"])
        report[f"{name}_saving"] = round(uniform_1hz["rate"] / rate, 3) if rate else None
    return report


def _at_rate(policy, decoder: TextDecoder, average: bool, recording: Recording, rate: float) -> list[Decode]:
    return policy(recording, decoder, rate, average)


def draw(report: dict[str, Any], path: Path) -> None:
    """Plot the curves as SVG."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "nano"  # the same figures give the same file
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.2), layout="constrained")
    for name, points in report["curves"].items():
        rates, ciders = [p["rate"] for p in points], [p["cider"] for p in points]
        axes.plot(rates, ciders, "--" if "averaged" in name else "-", marker=".", label=name.replace("_", ", "))
    for name, marker in (("live_gate", "*"), ("oracle", "D"), ("oracle_averaged", "d")):
        point = report[name]
        axes.plot(point["rate"], point["cider"], marker, markersize=10, linestyle="", label=name.replace("_", " "))
    axes.axhline(report["uniform_1hz_cider"], color="grey", linewidth=0.8)
    axes.set(xscale="log", xlabel="decodes a second", ylabel="CIDEr of the events")
    axes.legend(fontsize=8)
    figure.savefig(path, metadata={"Date": None})


@click.command()
@click.option("--bundle", type=click.Path(path_type=Path), required=True, help="With calibrated gates.")
@click.option("--weights", type=click.Path(path_type=Path), default=Path("data/nano-weights"), show_default=True)
@click.option("--streams", type=click.Path(path_type=Path), default=Path("data/streams/test"), show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=None, help="The JSON to add the figures to.")
def main(bundle: Path, weights: Path, streams: Path, out: Path | None) -> None:
    """Score a bundle's narration of the test streams."""
    model = vlj_edge.load(bundle)
    recordings = record_all(bundle, streams)
    report = narration(recordings, TextDecoder(weights), model.manifest.gates)
    console.print({key: value for key, value in report.items() if key != "curves"})
    if out:
        command = "python selective.py --bundle data/nano-bundle --out ../../results/nano-eval.json"
        header = provenance(command) | {"weights": seal(weights / MODEL_FILE).sha256}
        add_to(out, {"narration": header | report})
        draw(report, out.with_name("nano-selective.svg"))


if __name__ == "__main__":
    main()
