"""Chooses the gates' thresholds on validation streams, and writes gates.json beside the weights.

Chosen is the meaning gate that decodes least among those whose CIDEr is at least MARGIN above that of decoding once a
second, or, where none is, within SLACK of the best; then the loosest caption memory that costs at most MEMORY_COST.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import click
import numpy as np
from policies import live, uniform
from recordings import Judge, Recording, Speaker, record_all
from rich.console import Console
from rich.progress import track

import vlj_edge
from vlj_edge.bundle import CaptionMemory, Gates, MeaningGate

MARGIN = 0.05  # of the CIDEr of one decode a second: what is fitted to few streams does a little worse on others
SLACK = 0.02
MEMORY_COST = 0.01
HYSTERESIS = 0.02  # forget_above lies this far above speak_below
GRID: dict[str, tuple[float, ...]] = {
    "smoothing": (1, 2),
    "calm_windows": (2, 3),
    "calm_variance": (0.005, 0.01, 0.02, 0.04),
    "speak_below": (0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97),
    "least_hold": (0.5, 1.0),
    "longest_wait": (1.0, 1.5, 2.0, 2.5),
}
SAME = (0.9, 0.93, 0.95, 0.97, 0.98, 0.99)  # of the caption memory

console = Console(stderr=True)
NO_MEMORY = CaptionMemory(enabled=False)


def settings() -> Iterator[MeaningGate]:
    for values in itertools.product(*GRID.values()):
        chosen = dict(zip(GRID, values, strict=True))
        whole = {key: int(chosen.pop(key)) for key in ("smoothing", "calm_windows")}
        forget = min(chosen["speak_below"] + HYSTERESIS, 1.0)
        yield replace(MeaningGate(), **chosen, **whole, forget_above=forget)


def measure(recordings: Sequence[Recording], speaker: Speaker, judge: Judge, gates: Gates) -> tuple[float, float]:
    """CIDEr over all events, and decoder runs a second."""
    scores, runs = [], 0
    for recording in recordings:
        decodes, _, known = live(recording, speaker, gates)
        scores.append(judge.scores(recording, decodes))
        runs += len(decodes) - known
    return float(np.concatenate(scores).mean()), runs / sum(recording.seconds for recording in recordings)


def calibrate(recordings: Sequence[Recording], speaker: Speaker, defaults: Gates) -> Gates:
    judge = Judge(recordings)
    once_a_second = [judge.scores(r, uniform(r, speaker, 1.0, average=False)) for r in recordings]
    wanted = float(np.concatenate(once_a_second).mean())
    console.print(f"one decode a second: CIDEr {wanted:.3f}")
    tried = []
    for gate in track(list(settings()), "gates", console=console, disable=not console.is_terminal):
        gates = replace(defaults, meaning=gate, memory=NO_MEMORY)
        tried.append((*measure(recordings, speaker, judge, gates), gates))
    good = [found for found in tried if found[0] >= wanted * (1 + MARGIN)]
    if not good:
        best = max(found[0] for found in tried)
        console.print(f"no gate reaches that with {MARGIN:.0%} to spare; the best has {best:.3f}")
        good = [found for found in tried if found[0] >= best * (1 - SLACK)]
    cider, rate, gates = min(good, key=lambda found: found[1])
    console.print(f"meaning gate: CIDEr {cider:.3f} with {rate:.3f} decodes a second")
    for same in SAME:
        remembering = replace(gates, memory=replace(CaptionMemory(), same=same))
        with_memory, runs = measure(recordings, speaker, judge, remembering)
        if with_memory >= cider * (1 - MEMORY_COST):
            console.print(f"and memory: CIDEr {with_memory:.3f} with {runs:.3f} decoder runs a second")
            return remembering
    return replace(gates, memory=replace(CaptionMemory(), same=SAME[-1]))


@click.command()
@click.option("--bundle", type=click.Path(path_type=Path), required=True, help="Exported from the weights.")
@click.option("--streams", type=click.Path(path_type=Path), default=Path("data/streams/val"), show_default=True)
@click.option("--weights", type=click.Path(path_type=Path), default=Path("data/nano-weights"), show_default=True)
def main(bundle: Path, streams: Path, weights: Path) -> None:
    """Calibrate on the streams (video and JSON) in a folder; no test stream and not the demo may be among them."""
    model = vlj_edge.load(bundle)
    recordings = record_all(model, streams)
    gates = calibrate(recordings, Speaker(weights), model.manifest.gates)
    (weights / "gates.json").write_text(json.dumps(asdict(gates), indent=1) + "\n")
    click.echo(f"{weights / 'gates.json'}: {gates}")


if __name__ == "__main__":
    main()
