"""Four cameras on one device: one model for all of them against one camera after another, and how late their texts are.

python benchmarks/cameras.py [--rounds 5]

As fast as it goes: a station narrates four copies of the demo with one model; the same model narrates it four times,
one after another. Equivalence: every copy gets the texts that the demo gets alone. In real time: one, then four copies
are played like cameras; the delay of a window is the age of its newest frame when it has been judged.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import click
from common import ROOT, in_turn, milliseconds, ratio, write

import vlj_edge
from vlj_edge import Model
from vlj_edge.runtime.service.settings import SourceSettings
from vlj_edge.runtime.service.station import Station
from vlj_edge.runtime.sinks.base import Event

DEMO = str(ROOT / "examples" / "media" / "demo.mp4")
CAMERAS = 4
Texts = list[tuple[float, str]]


def play(model: Model, cameras: int, real_time: bool = False) -> tuple[dict[str, Texts], list[dict[str, Any]]]:
    """Narrate so many copies of the demo side by side; return the texts and the counts of each."""
    texts = defaultdict[str, Texts](list)

    def keep(event: Event) -> None:
        texts[event.source].append((event.narration.begins, event.narration.text))

    sources = [SourceSettings(f"camera{number}", DEMO) for number in range(cameras)]
    station = Station(model, sources, on_event=keep, real_time=real_time)
    station.start()
    station.wait(0.01)
    counts = [channel.statistics.counts() for channel in station.channels.values()]
    station.stop()
    return dict(texts), counts


def as_fast_as_it_goes(model: Model, rounds: int) -> dict[str, Any]:
    """Time four cameras side by side and one after another, in both orders in turn."""
    alone = [(item.begins, item.text) for item in model.narrate(DEMO)]
    found: list[dict[str, Texts]] = []
    seconds = in_turn(
        rounds,
        side_by_side=lambda: found.append(play(model, CAMERAS)[0]),
        one_after_another=lambda: [list(model.narrate(DEMO)) for _ in range(CAMERAS)],
    )
    return {
        "milliseconds": {name: milliseconds(values) for name, values in seconds.items()},
        "side_by_side_over_one_after_another": ratio(seconds["side_by_side"], seconds["one_after_another"]),
        "copies": sum(len(each) for each in found),
        "copies_with_the_same_texts": sum(texts == alone for each in found for texts in each.values()),
        "texts": len(alone),
    }


def in_real_time(model: Model, cameras: int) -> dict[str, Any]:
    """Play the demo like cameras: delays in seconds, and windows that were dropped."""
    _, counts = play(model, cameras, real_time=True)
    return {
        "delay_p50": max(each["delay_p50"] for each in counts),
        "delay_p95": max(each["delay_p95"] for each in counts),
        "windows": sum(each["windows"] for each in counts),
        "windows_dropped": sum(each["windows_dropped"] for each in counts),
    }


@click.command()
@click.option("--rounds", default=5, show_default=True)
def main(rounds: int) -> None:
    """Measure both and write results/cameras.json."""
    with vlj_edge.load() as model:
        found: dict[str, Any] = {"cameras": CAMERAS, "as_fast_as_it_goes": as_fast_as_it_goes(model, rounds)}
        found["in_real_time"] = {str(cameras): in_real_time(model, cameras) for cameras in (1, CAMERAS)}
    print(found)
    write("cameras.json", found, f"python benchmarks/cameras.py --rounds {rounds}")


if __name__ == "__main__":
    main()
