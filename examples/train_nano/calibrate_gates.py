"""Choose the gates' thresholds on validation streams, and write gates.json beside the weights.

Candidates are the meaning gates that pass at most one text where decoding once a second passes 2.85 (the paper's
saving). Of those whose CIDEr, with the caption memory on, is at least ENOUGH of the best, the one that encodes the
fewest windows is chosen. The settings of rest detection (bundle.RestSettings) are not chosen here.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from policies import live_changes, remembered_texts, uniform
from recordings import Judge, Recording, TextDecoder, record_all
from rich.console import Console
from rich.progress import track
from worlds import CHOSEN_ON

import vlj_edge
from vlj_edge.bundle import CaptionMemorySettings, GateSettings, MeaningGateSettings

SAVING = 2.85  # arXiv 2512.10942: 0.35 decodes a second in place of one
HYSTERESIS = 0.02  # forget_above lies this far above speak_below
GRID: dict[str, tuple[Any, ...]] = {
    "speak_below": (0.93, 0.95, 0.965),
    "same_above": (0.99, 0.995, 1.0),
    "look_every": (1.0, 1.5, 2.0),
    "longest_look": (2.0, 2.5, 3.0),
    "settle_moving": (0.5, 1.0),
    "settle_resting": (0.0, 0.5),
}
# Times in seconds. While the picture is at rest only a change that is large triggers a text.
FIXED: dict[str, Any] = {
    "calm_windows": 1,
    "calm_variance": 0.01,
    "speak_below_at_rest": 0.7,
    "look_at_rest": 8.0,
    "least_hold": 0.5,
    "longest_wait": 1.0,
}
ENOUGH = 0.99  # share of the best CIDEr: the rest is less than the difference between sets of streams
MEMORY = CaptionMemorySettings(same=0.99, same_at_rest=0.99)  # lower values cost too much CIDEr in motion
SAME_AT_REST = (0.0, 0.3, 0.5, 0.7, 0.9, 0.99)

console = Console(stderr=True)


@dataclass(frozen=True)
class Trial:
    """Gate settings with their CIDEr over all events, texts a second, and share of windows encoded."""

    cider: float
    rate: float
    encoded: float
    meaning: MeaningGateSettings
    memory: CaptionMemorySettings


def settings() -> Iterator[MeaningGateSettings]:
    for values in itertools.product(*GRID.values()):
        values_by_name = dict(zip(GRID, values, strict=True))
        forget = min(values_by_name["speak_below"] + HYSTERESIS, 1.0)
        yield replace(MeaningGateSettings(), **values_by_name, **FIXED, forget_above=forget)


def measure(
    recordings: Sequence[Recording],
    decoder: TextDecoder,
    judge: Judge,
    gate: MeaningGateSettings,
    memory: CaptionMemorySettings,
) -> Trial:
    scores, count, encoded = [], 0, 0
    for recording in recordings:
        changes, windows_encoded = live_changes(recording, gate)
        encoded += windows_encoded
        texts, _ = remembered_texts(changes, decoder, memory)
        decodes = [(change.time, text) for change, text in zip(changes, texts, strict=True)]
        scores.append(judge.scores(recording, decodes))
        count += len(changes)
    seconds = sum(recording.seconds for recording in recordings)
    windows = sum(len(recording.centres) for recording in recordings)
    return Trial(float(np.concatenate(scores).mean()), count / seconds, encoded / windows, gate, memory)


def choose(trials: Sequence[Trial]) -> Trial:
    """Return the best trial by the rule at the top of this file."""
    candidates = [trial for trial in trials if trial.rate <= 1 / SAVING] or trials
    best = max(trial.cider for trial in candidates)
    return min(
        (trial for trial in candidates if trial.cider >= ENOUGH * best), key=lambda trial: (trial.encoded, -trial.cider)
    )


def calibrate(recordings: Sequence[Recording], decoder: TextDecoder, defaults: GateSettings) -> GateSettings:
    judge = Judge(recordings)
    once_a_second = [judge.scores(r, uniform(r, decoder, 1.0, average=False)) for r in recordings]
    uniform_cider = float(np.concatenate(once_a_second).mean())
    console.print(f"one decode a second: CIDEr {uniform_cider:.3f}")
    gates = track(list(settings()), "gates", console=console, disable=not console.is_terminal)
    best = choose([measure(recordings, decoder, judge, gate, MEMORY) for gate in gates])
    memories = [replace(MEMORY, same_at_rest=same) for same in SAME_AT_REST]
    best = choose([measure(recordings, decoder, judge, best.meaning, memory) for memory in memories])
    console.print(f"chosen: CIDEr {best.cider:.3f} with {best.rate:.3f} texts a second, {best.encoded:.1%} encoded")
    return replace(defaults, meaning=best.meaning, memory=best.memory)


@click.command()
@click.option("--bundle", type=click.Path(path_type=Path), required=True, help="Exported from the weights.")
@click.option(
    "--streams",
    type=click.Path(path_type=Path),
    multiple=True,
    default=tuple(Path("data/streams") / name for name in ("val", *(f"val-{world}" for world in CHOSEN_ON[1:]))),
    help="Folders of streams; by default those of nine worlds.",
)
@click.option("--weights", type=click.Path(path_type=Path), default=Path("data/nano-weights"), show_default=True)
def main(bundle: Path, streams: tuple[Path, ...], weights: Path) -> None:
    """Calibrate on the streams (video and JSON) in some folders; no test stream and not the demo may be among them."""
    model = vlj_edge.load(bundle)
    recordings = [recording for folder in streams for recording in record_all(bundle, folder)]
    gates = calibrate(recordings, TextDecoder(weights), model.manifest.gates)
    (weights / "gates.json").write_text(json.dumps(asdict(gates), indent=1) + "\n")
    click.echo(f"{weights / 'gates.json'}: {gates}")


if __name__ == "__main__":
    main()
