"""Choose the gates' settings on validation streams of several worlds, and write gates.json beside the weights.

A hill climb: from the bundle's own settings on, a few settings at a time are drawn from SPACE, and kept where the
penalty falls. The penalty (`penalty`) is how far quality and savings stay behind AIMS, in nano's own world and in the
worst of the others. Each world is judged against decoding it once a second. The settings of the scene gate and of rest
(bundle.RestSettings) are not chosen here.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypeAlias

import click
import numpy as np
from policies import live_changes, remembered_texts, uniform
from recordings import Decode, Judge, Recording, TextDecoder, record_all
from rich.console import Console
from worlds import CHOSEN_ON

import vlj_edge
from vlj_edge.bundle import GateSettings
from vlj_edge.runtime.evaluation.narration import truths

OWN = CHOSEN_ON[0]
HYSTERESIS, HIGHEST = 0.02, 0.99  # forget_above lies this far above speak_below, but never higher
# Settings of the meaning gate, and of the caption memory (memory.*). Times in seconds.
SPACE: dict[str, tuple[float, ...]] = {
    "speak_below": (0.9, 0.92, 0.93, 0.94, 0.95, 0.96, 0.965, 0.97),
    "speak_below_at_rest": (0.6, 0.7, 0.8),
    "same_above": (0.97, 0.98, 0.99, 0.995, 1.0),
    "look_every": (1.5, 1.75, 2.0, 2.25, 2.5, 3.0),
    "longest_look": (2.0, 2.5, 3.0, 3.5, 4.0),
    "look_at_rest": (6.0, 8.0, 10.0),
    "least_hold": (0.5, 1.0, 1.5),
    "longest_wait": (0.5, 1.0, 1.5, 2.0),
    "settle": (0.0, 0.5),
    "settle_moving": (0.0, 0.5, 1.0),
    "settle_resting": (0.0, 0.5, 1.0),
    "memory.same": (0.96, 0.97, 0.98, 0.985, 0.99),
    "memory.same_at_rest": (0.0, 0.3, 0.5),
}
console = Console(stderr=True)


@dataclass(frozen=True)
class Figures:
    """One world, live.

    Attributes:
        cider: over that of one decode a second.
        truth: share of the time in which the latest text is true, less that of one decode a second, in points.
        missed: share of events that no text begins in.
        delay: s from an event's start to the end of the window of its first text, 95th percentile.
        decodes: how many times fewer decoder runs than once a second.
        encodes: how many times fewer encoder runs than windows.
    """

    cider: float
    truth: float
    missed: float
    delay: float
    decodes: float
    encodes: float


# The figures to reach in nano's own world and in the worst of the others, and what missing one by 1 costs.
AIMS = {
    "own": Figures(1.005, 1.0, 0.10, 3.0, 4.5, 6.0),
    "worst": Figures(0.99, 1.0, 0.12, 3.0, 3.2, 4.0),
}
COSTS = Figures(3.0, 0.03, 2.0, 0.15, 0.1, 0.07)
Worlds: TypeAlias = Mapping[str, Sequence[Recording]]


def penalty(figures: Mapping[str, Figures]) -> float:
    """Return how far the figures by world stay behind AIMS, 0 or more."""
    return _behind(figures[OWN], AIMS["own"]) + _behind(worst(list(figures.values())), AIMS["worst"])


def worst(figures: Sequence[Figures]) -> Figures:
    """Return the worst of each figure."""
    return Figures(
        **{
            name: (max if name in ("missed", "delay") else min)(getattr(f, name) for f in figures)
            for name in vars(COSTS)
        }
    )


def _behind(figures: Figures, aims: Figures) -> float:
    total = 0.0
    for name, cost in vars(COSTS).items():
        missing = getattr(aims, name) - getattr(figures, name)
        total += cost * max(0.0, -missing if name in ("missed", "delay") else missing)
    return total


class Measure:
    """Figures of gate settings by world; what decoding once a second gives is computed once."""

    def __init__(self, worlds: Worlds, decoder: TextDecoder) -> None:
        self._worlds, self._decoder = worlds, decoder
        self._judges = {name: Judge(recordings) for name, recordings in worlds.items()}
        self._once = {
            name: self._quality(name, [uniform(r, decoder, 1.0, average=False) for r in recordings])
            for name, recordings in worlds.items()
        }

    def __call__(self, gates: GateSettings) -> dict[str, Figures]:
        return {name: self._world(name, recordings, gates) for name, recordings in self._worlds.items()}

    def _world(self, name: str, recordings: Sequence[Recording], gates: GateSettings) -> Figures:
        said, delays, events, decodes, encodes = [], list[float](), 0, 0, 0
        for recording in recordings:
            changes, encoded = live_changes(recording, gates.meaning)
            texts, remembered = remembered_texts(changes, self._decoder, gates.memory)
            said.append([(change.time, text) for change, text in zip(changes, texts, strict=True)])
            encodes += encoded
            decodes += len(changes) - remembered
            events += len(recording.events)
            for event in recording.events:
                known = [c.available_at for c in changes if event.start <= c.time < event.end]
                delays += [min(known) - event.start] if known else []
        cider, truth = self._quality(name, said)
        cider_once, truth_once = self._once[name]
        return Figures(
            cider / cider_once,
            100 * (truth - truth_once),
            1 - len(delays) / events,
            float(np.quantile(delays, 0.95)) if delays else float("inf"),
            sum(r.seconds for r in recordings) / max(1, decodes),
            sum(len(r.centres) for r in recordings) / max(1, encodes),
        )

    def _quality(self, name: str, said: Sequence[Sequence[Decode]]) -> tuple[float, float]:
        """Return the mean CIDEr of a world's events, and the share of the time in which the latest text is true."""
        recordings, judge = self._worlds[name], self._judges[name]
        scores = np.concatenate([judge.scores(r, texts) for r, texts in zip(recordings, said, strict=True)])
        true = [is_true for r, texts in zip(recordings, said, strict=True) for is_true in truths(r.events, texts)]
        return float(scores.mean()), float(np.mean(true))


def with_values(gates: GateSettings, values: Mapping[str, float]) -> GateSettings:
    """Return gates with other settings, by the names of SPACE."""
    memory = {name.removeprefix("memory."): value for name, value in values.items() if name.startswith("memory.")}
    meaning = replace(gates.meaning, **{name: value for name, value in values.items() if "." not in name})
    forget = round(min(meaning.speak_below + HYSTERESIS, HIGHEST), 4)
    longest = max(meaning.longest_look, meaning.look_every)
    meaning = replace(meaning, forget_above=forget, longest_look=longest)
    return replace(gates, meaning=meaning, memory=replace(gates.memory, **memory))


def climb(
    measure: Callable[[GateSettings], dict[str, Figures]], start: GateSettings, seed: int, go_on: Callable[[], bool]
) -> GateSettings:
    """Return the best settings that a hill climb finds while `go_on` says so."""
    rng, best, lowest = random.Random(seed), start, penalty(measure(start))
    console.print(f"penalty {lowest:.4f} at the start")
    while go_on():
        names = rng.sample(list(SPACE), rng.choice((1, 1, 2, 3)))
        gates = with_values(best, {name: rng.choice(SPACE[name]) for name in names})
        if gates == best:
            continue
        figures = measure(gates)
        found = penalty(figures)
        if found < lowest:
            best, lowest = gates, found
            console.print(f"{found:.4f}  own {figures[OWN]}  worst {worst(list(figures.values()))}")
    return best


@click.command()
@click.option("--bundle", type=click.Path(path_type=Path), required=True, help="Exported from the weights.")
@click.option("--streams", type=click.Path(path_type=Path), default=Path("data/streams"), show_default=True)
@click.option("--weights", type=click.Path(path_type=Path), default=Path("data/nano-weights"), show_default=True)
@click.option("--minutes", default=30.0, show_default=True, help="Of the search.")
@click.option("--seed", default=0, show_default=True)
def main(bundle: Path, streams: Path, weights: Path, minutes: float, seed: int) -> None:
    """Calibrate on the validation streams of the worlds in CHOSEN_ON; no test stream and not the demo is among them."""
    model = vlj_edge.load(bundle)
    folders = {world: streams / ("val" if world == OWN else f"val-{world}") for world in CHOSEN_ON}
    worlds = {world: record_all(bundle, folder) for world, folder in folders.items()}
    end = time.monotonic() + 60 * minutes
    gates = climb(Measure(worlds, TextDecoder(weights)), model.manifest.gates, seed, lambda: time.monotonic() < end)
    (weights / "gates.json").write_text(json.dumps(asdict(gates), indent=1) + "\n")
    click.echo(f"{weights / 'gates.json'}: {gates}")


if __name__ == "__main__":
    main()
