"""Chooses the meaning gate's thresholds on validation streams, and writes gates.json beside the weights.

Every window of every stream is embedded and decoded once; then each setting is tried on what was recorded. Chosen is
the setting that decodes least among those within MARGIN of the best score: fitted to the streams, not to their noise.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click
from narration_score import score
from rich.console import Console
from rich.progress import track

import vlj_edge
from vlj_edge.bundle import CaptionMemory, Gates, MeaningGate
from vlj_edge.results import Narration, WindowEmbedding
from vlj_edge.runtime.gates import CaptionMemory as RunningMemory
from vlj_edge.runtime.gates import MeaningGate as RunningGate
from vlj_edge.runtime.pipeline import Model

MARGIN = 0.03  # of seconds_true: about what four streams can tell apart
GRID: dict[str, tuple[float, ...]] = {
    "smoothing": (1, 2, 3),
    "calm_variance": (0.005, 0.01, 0.02, 0.05),
    "speak_below": (0.8, 0.87, 0.9, 0.93, 0.95, 0.97, 0.98),
    "longest_wait": (1.0, 2.0),
}
SAME = (0.97, 0.98, 0.99)  # of the caption memory
HYSTERESIS = 0.01  # forget_above lies this far above speak_below

console = Console(stderr=True)


@dataclass(frozen=True)
class Recording:
    """A stream, window by window: embeddings, what the decoder makes of each, and what is true."""

    windows: list[WindowEmbedding]
    texts: list[str]
    events: list[dict[str, Any]]


def record(model: Model, video: Path) -> Recording:
    windows = list(model.embed(video, every_window=True))
    texts = [narration.text for narration in model.narrate(video, every_window=True)]
    return Recording(windows, texts, json.loads(video.with_suffix(".json").read_text())["events"])


def replay(recording: Recording, settings: Gates) -> tuple[list[Narration], int]:
    """What would have been said, and how often the decoder would have run. The text is that of the window itself."""
    size = len(recording.windows[0].embedding)
    gate, memory = RunningGate(settings.meaning, size), RunningMemory(settings.memory, size)
    said: list[Narration] = []
    decodes = 0
    for item, text in zip(recording.windows, recording.texts, strict=True):
        change = gate.offer(item.window.centre, item.embedding)
        if change is not None:
            known = memory.recall(change.embedding)
            if known is None:
                decodes += 1
                memory.put(change.embedding, text)
            text = text if known is None else known
            if not said or said[-1].text != text:
                said.append(Narration(item.window.start, item.window.end, text, "decoder"))
    return said, decodes


def every_window(recording: Recording) -> list[Narration]:
    """The baseline: every window decoded."""
    pairs = zip(recording.windows, recording.texts, strict=True)
    return [Narration(item.window.start, item.window.end, text, "decoder") for item, text in pairs]


def settings_to_try() -> list[Gates]:
    tried = []
    for same, *values in itertools.product(SAME, *GRID.values()):
        chosen = dict(zip(GRID, values, strict=True))
        meaning = replace(MeaningGate(), forget_above=chosen["speak_below"] + HYSTERESIS, **chosen)
        meaning = replace(meaning, smoothing=int(meaning.smoothing))
        tried.append(Gates(meaning=meaning, memory=CaptionMemory(same=same)))
    return tried


def measure(recordings: list[Recording], settings: Gates) -> dict[str, float]:
    """Mean score over the streams, and windows a decode."""
    scores, decodes = [], 0
    for recording in recordings:
        said, runs = replay(recording, settings)
        scores.append(score(recording.events, said))
        decodes += runs
    windows = sum(len(recording.windows) for recording in recordings)
    mean = {key: sum(s[key] for s in scores) / len(scores) for key in ("seconds_true", "texts_true")}
    return mean | {"decodes_saved": windows / max(decodes, 1)}


@click.command()
@click.option("--bundle", type=click.Path(path_type=Path), required=True, help="Exported from the weights.")
@click.option("--streams", type=click.Path(path_type=Path), default=Path("data/streams"), show_default=True)
@click.option("--weights", type=click.Path(path_type=Path), default=Path("data/nano-weights"), show_default=True)
def main(bundle: Path, streams: Path, weights: Path) -> None:
    """Calibrate the meaning gate on the streams (video and JSON) in a folder; the demo must not be among them."""
    model = vlj_edge.load(bundle)
    videos = sorted(streams.glob("*.mp4"))
    if not videos:
        raise click.ClickException(f"{streams} holds no videos: make_stream.py --out {streams} renders them")
    recordings = [record(model, video) for video in track(videos, "streams", console=console)]
    found = [(measure(recordings, settings), settings) for settings in settings_to_try()]
    best = max(result["seconds_true"] for result, _ in found)
    good = [pair for pair in found if pair[0]["seconds_true"] >= best - MARGIN]
    result, chosen = max(good, key=lambda pair: pair[0]["decodes_saved"])
    every = [score(recording.events, every_window(recording)) for recording in recordings]
    click.echo(f"every window: seconds_true {sum(s['seconds_true'] for s in every) / len(every):.3f}")
    (weights / "gates.json").write_text(json.dumps(asdict(chosen), indent=1) + "\n")
    click.echo(f"{weights / 'gates.json'}: {chosen}")
    click.echo(f"on {len(videos)} streams: " + ", ".join(f"{key} {value:.3f}" for key, value in result.items()))


if __name__ == "__main__":
    main()
