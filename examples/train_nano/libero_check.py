"""Score nano on a domain it was not trained on: LIBERO's drawers and doors, rendered by libero_render.py.

Every clip is shown as it was rendered (opening) and backwards (closing). Reported for the whole picture and for a crop
around the object, with bootstrap intervals over scenes. Nothing is fitted here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from augment import add_sensor_noise
from evaluate import NAMES, Scorer
from features import HELD_OUT_NOISE, encode, export_stem, open_stem
from figures import interval
from generate import generate
from provenance import add_to, provenance
from questions import STATES
from rich.console import Console
from tasks import DESCRIBE_QUERIES, TASK_QUERIES

from vlj_edge.bundle import seal
from vlj_edge.export.weights.locations import MODEL_FILE

VIEWS = ("whole", "crop")
console = Console(stderr=True)


@dataclass(frozen=True)
class Clip:
    """Stem features float32 (8, 112, 6, 6) of a thing that opens or closes, and its final state according to LIBERO."""

    scene: str
    view: str
    thing: str
    opening: bool
    state: str
    features: np.ndarray


def load_clips(folder: Path, stem: Path) -> list[Clip]:
    """Load every rendered clip in both directions, with the sensor noise of held-out episodes."""
    files = sorted(folder.glob("*.npz"))
    if not files:
        raise click.ClickException(f"{folder} holds no clips: run libero_render.py in a LIBERO environment first")
    session, rng, clips = open_stem(str(stem)), np.random.default_rng(0), []
    for file in files:
        with np.load(file, allow_pickle=False) as stored:
            pictures, entries = stored["clips"], json.loads(str(stored["entries"]))
        for frames, entry in zip(pictures, entries, strict=True):
            for opening in (True, False):
                order = slice(None, None, 1 if opening else -1)
                pixels = add_sensor_noise(frames[order].astype(np.float32), HELD_OUT_NOISE, rng)
                features = encode(session, pixels).astype(np.float32)
                state = entry["states"][order][-1]
                clips.append(Clip(file.stem, entry["view"], entry["thing"], opening, state, features))
    return clips


def score(clips: list[Clip], scorer: Scorer) -> dict[str, Any]:
    """Score direction against its opposite, task among all 50 labels, thing, state, and the decoder's text."""
    with torch.inference_mode():
        tokens = scorer.model.vision_encoder.encode(torch.from_numpy(np.stack([clip.features for clip in clips])))
    scores = scorer.predict(tokens, [TASK_QUERIES[0]] * len(clips)) @ scorer.labels.T
    texts = generate(scorer.model, scorer.predict(tokens, [DESCRIBE_QUERIES[0]] * len(clips)), scorer.decoder_tokenizer)
    answers = scorer.predict(tokens, [STATES[f"the {clip.thing}"][0][0] for clip in clips])
    rows: dict[str, list[bool]] = {key: [] for key in ("opposite", "task_top1", "thing", "state", "decoder_thing")}
    for clip, row, text, answer in zip(clips, scores, texts, answers, strict=True):
        directions = ("open", "close") if clip.opening else ("close", "open")
        label, opposite = (NAMES.index(f"{clip.thing}-{direction}") for direction in directions)
        states = STATES[f"the {clip.thing}"][1]
        nearest = list(states)[int((scorer.embed_labels(list(states.values())) @ answer).argmax())]
        rows["opposite"].append(bool(row[label] > row[opposite]))
        rows["task_top1"].append(int(row.argmax()) == label)
        rows["thing"].append(int(row.argmax()) in (label, opposite))
        rows["state"].append(nearest == clip.state)
        rows["decoder_thing"].append(clip.thing in text)
    scene = np.array([clip.scene for clip in clips])
    return {key: interval(np.array(values), scene) for key, values in rows.items()}


@click.command()
@click.option("--clips", type=click.Path(path_type=Path), default=Path("data/libero"), show_default=True)
@click.option("--weights", type=click.Path(path_type=Path, exists=True), default=Path("data/nano-weights"))
@click.option("--out", type=click.Path(path_type=Path), default=None, help="Write the scores here as JSON.")
def main(clips: Path, weights: Path, out: Path | None) -> None:
    """Score trained weights on LIBERO's drawers and doors."""
    stem = clips / "stem.onnx"
    export_stem(stem)
    all_clips = load_clips(clips, stem)
    scorer = Scorer(weights)
    report = provenance("python libero_check.py --out ../../results/nano-libero.json")
    report |= {"weights": seal(weights / MODEL_FILE).sha256, "scenes": len({clip.scene for clip in all_clips})}
    report["chance"] = {"opposite": 0.5, "task_top1": 1 / len(NAMES), "thing": 2 / len(NAMES), "state": 0.5}
    for view in VIEWS:
        for thing in sorted({clip.thing for clip in all_clips}):
            chosen = [clip for clip in all_clips if (clip.view, clip.thing) == (view, thing)]
            report[f"{thing}_{view}"] = score(chosen, scorer)
            console.print(thing, view, {key: result["value"] for key, result in report[f"{thing}_{view}"].items()})
    if out:
        add_to(out, report)


if __name__ == "__main__":
    main()
