"""Chooses the gates' thresholds on validation streams, and writes gates.json beside the weights.

Meaning gate and caption memory are chosen together. Chosen is the pair that runs the decoder least among those whose
CIDEr is at least MARGIN above that of decoding once a second; where none is, the best among those that run it as rarely
as the paper's 2.85 x saving asks. When the picture counts as being at rest (bundle.Rest) is not chosen here.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import click
import numpy as np
from policies import live_changes, remembered_texts, uniform
from recordings import Judge, Recording, Speaker, record_all
from rich.console import Console
from rich.progress import track

import vlj_edge
from vlj_edge.bundle import CaptionMemory, Gates, MeaningGate

MARGIN = (
    0.02  # of the CIDEr of one decode a second: a gate's distance to it differs by 1 % from dozen to dozen of streams
)
PAPER_SAVING = 2.85  # arXiv 2512.10942: 0.35 decodes a second in place of one
HYSTERESIS = 0.02  # forget_above lies this far above speak_below
GRID: dict[str, tuple[float, ...]] = {
    "calm_variance": (0.01, 0.02),
    "speak_below": (0.8, 0.85, 0.9, 0.93, 0.95),
    "speak_below_at_rest": (0.3, 0.5, 0.7),
    "longest_wait": (1.0, 1.5),
    "settle": (0.5, 1.0, 1.5),
    "settle_moving": (1.0, 1.5),
    "settle_resting": (0.5, 1.0),
}
LEAST_HOLD = 1.0  # s: a text that comes sooner after another is not read
SAME = (0.95, 0.97, 0.99)  # of the caption memory

console = Console(stderr=True)


@dataclass(frozen=True)
class Tried:
    """A pair of settings: CIDEr over all events, and how often a second the decoder runs."""

    cider: float
    rate: float
    meaning: MeaningGate
    memory: CaptionMemory


def settings() -> Iterator[MeaningGate]:
    for values in itertools.product(*GRID.values()):
        chosen = dict(zip(GRID, values, strict=True))
        forget = min(chosen["speak_below"] + HYSTERESIS, 1.0)
        yield replace(MeaningGate(), **chosen, least_hold=LEAST_HOLD, forget_above=forget)


def measure(recordings: Sequence[Recording], speaker: Speaker, judge: Judge, gate: MeaningGate) -> Iterator[Tried]:
    """One gate with every memory."""
    changes = [live_changes(recording, gate) for recording in recordings]
    seconds = sum(recording.seconds for recording in recordings)
    for same in SAME:
        memory, scores, runs = replace(CaptionMemory(), same=same), [], 0
        for recording, found in zip(recordings, changes, strict=True):
            texts, known = remembered_texts(found, speaker, memory)
            decodes = [(change.time, text) for change, text in zip(found, texts, strict=True)]
            scores.append(judge.scores(recording, decodes))
            runs += len(found) - known
        yield Tried(float(np.concatenate(scores).mean()), runs / seconds, gate, memory)


def choose(tried: Sequence[Tried], wanted: float) -> Tried:
    """See the top of this file. `wanted` is the CIDEr of one decode a second."""
    good = [found for found in tried if found.cider >= wanted * (1 + MARGIN)]
    if good:
        return min(good, key=lambda found: found.rate)
    console.print(f"nothing reaches that with {MARGIN:.0%} to spare: the best at the paper's saving is taken")
    rare = [found for found in tried if found.rate <= 1 / PAPER_SAVING]
    return max(rare or tried, key=lambda found: found.cider)


def calibrate(recordings: Sequence[Recording], speaker: Speaker, defaults: Gates) -> Gates:
    judge = Judge(recordings)
    once_a_second = [judge.scores(r, uniform(r, speaker, 1.0, average=False)) for r in recordings]
    wanted = float(np.concatenate(once_a_second).mean())
    console.print(f"one decode a second: CIDEr {wanted:.3f}")
    tried: list[Tried] = []
    for gate in track(list(settings()), "gates", console=console, disable=not console.is_terminal):
        tried += measure(recordings, speaker, judge, gate)
    found = choose(tried, wanted)
    console.print(f"chosen: CIDEr {found.cider:.3f} with {found.rate:.3f} decoder runs a second")
    return replace(defaults, meaning=found.meaning, memory=found.memory)


@click.command()
@click.option("--bundle", type=click.Path(path_type=Path), required=True, help="Exported from the weights.")
@click.option("--streams", type=click.Path(path_type=Path), default=Path("data/streams/val"), show_default=True)
@click.option("--weights", type=click.Path(path_type=Path), default=Path("data/nano-weights"), show_default=True)
def main(bundle: Path, streams: Path, weights: Path) -> None:
    """Calibrate on the streams (video and JSON) in a folder; no test stream and not the demo may be among them."""
    model = vlj_edge.load(bundle)
    recordings = record_all(bundle, streams)
    gates = calibrate(recordings, Speaker(weights), model.manifest.gates)
    (weights / "gates.json").write_text(json.dumps(asdict(gates), indent=1) + "\n")
    click.echo(f"{weights / 'gates.json'}: {gates}")


if __name__ == "__main__":
    main()
