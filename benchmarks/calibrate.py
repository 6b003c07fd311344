"""Calibration on the beginning of each recording, judged on its end: what was promised, and what came.

python benchmarks/calibrate.py      (streams: examples/train_nano/make_stream.py --split val --world jitter ...)

For each validation stream, which has a camera of its own, gates are calibrated on the first SHARE of it and then run
over the rest. `promised` is what calibration reported as held out, `measured` what the same gates do on the rest,
`own` what the bundle's gates do there. Quality is the share of the time in which the latest text is a caption of the
annotated event. Sums over the streams of a world; intervals of 95 % over streams.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from common import TRAIN_NANO, write

import vlj_edge
from vlj_edge.bundle import GateSettings
from vlj_edge.runtime.calibration.events import AnnotatedEvent, read_events
from vlj_edge.runtime.calibration.figures import Figures, cut, figures, total
from vlj_edge.runtime.calibration.proposal import propose, summary
from vlj_edge.runtime.calibration.record import Recording, record
from vlj_edge.runtime.calibration.reference import AnnotatedReference
from vlj_edge.runtime.calibration.replay import SceneDecisions, Words, replay
from vlj_edge.runtime.calibration.target import Target
from vlj_edge.runtime.model import Model

WORLDS = ("slow", "jitter", "exposure")
SHARE = 0.6

TARGETS: dict[str, Callable[[Figures], Target]] = {
    "the same quality at the least cost": lambda own: Target(quality=own.quality),
    "two thirds of the texts": lambda own: Target(texts_per_hour=own.texts_per_hour / 1.5),
}


def measure(model: Model, recording: Recording, events: list[AnnotatedEvent], gates: GateSettings) -> Figures:
    """Return what gates do on a recording."""
    words = Words(lambda embedding: model.chain.decode(embedding)[0])
    reference = AnnotatedReference(events, recording.centres, model.embed_text)
    done = replay(recording, gates, SceneDecisions(recording, gates.scene), words)
    return total(figures(done, reference, cut(recording.centres, 1, 2.0)))


def calibrated(model: Model, video: Path) -> dict[str, dict[str, Any]]:
    """Return for each target the figures that were promised, measured, and those of the bundle's gates."""
    whole, events = record(model.see(video), Recording()), read_events(video.with_suffix(".json"))
    at = round(SHARE * len(whole.windows))
    first, rest = Recording(whole.windows[:at]), Recording(whole.windows[at:])
    own = model.manifest.gates
    found = {}
    for name, target in TARGETS.items():
        proposal = propose(model, first, target(measure(model, first, events, own)), events)
        found[name] = {
            "improved": proposal.found.improved,
            "promised": total(proposal.found.held_out),
            "fitted": total(proposal.found.fitted),
            "measured": measure(model, rest, events, proposal.gates),
            "own": measure(model, rest, events, own),
        }
    return found


def summed(streams: list[dict[str, dict[str, Any]]], name: str) -> dict[str, Any]:
    """Return the figures of a target over all streams."""
    found: dict[str, Any] = {"improved": sum(each[name]["improved"] for each in streams)}
    return found | {
        key: summary(tuple(each[name][key] for each in streams)) for key in ("promised", "fitted", "measured", "own")
    }


@click.command()
@click.option("--streams", type=click.Path(path_type=Path), default=TRAIN_NANO / "data/streams")
@click.option("--count", default=6, show_default=True, help="Streams of each world.")
def main(streams: Path, count: int) -> None:
    """Measure every world whose validation streams are there, and write results/calibrate.json."""
    found: dict[str, Any] = {}
    with vlj_edge.load(threads=1) as model:
        for world in WORLDS:
            videos = sorted((streams / f"val-{world}").glob("*.mp4"))[:count]
            done = []
            for video in videos:
                done.append(calibrated(model, video))
                print(world, video.stem, {name: shown(each) for name, each in done[-1].items()}, flush=True)
            if done:
                found[world] = {"streams": len(done)} | {name: summed(done, name) for name in TARGETS}
    if not found:
        raise click.ClickException(f"{streams} holds no validation streams: make_stream.py renders them")
    write("calibrate.json", {"share": SHARE, "worlds": found}, f"python benchmarks/calibrate.py --count {count}")


def shown(each: dict[str, Any]) -> dict[str, Any]:
    """Return figures as they are printed while it runs."""
    return {name: value.as_dict() if isinstance(value, Figures) else value for name, value in each.items()}


if __name__ == "__main__":
    main()
