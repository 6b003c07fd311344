"""Choose the score below which a search in a library of nano's videos finds nothing, on validation streams.

    python calibrate_search.py [--streams DIR] [--bundle BUNDLE] [--out ../../results/search-floor.json]

The floor is the lowest one that leaves nothing to be found for 19 of 20 sentences of everyday life, of which nano's
streams show none. Every other sentence chooses, the rest judge on the test streams, together with nano's own sentences
(of actions that the streams show), the same as a person types them ("opens the drawer"), and the names of the objects.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from provenance import provenance
from tasks import TASKS

import vlj_edge
from vlj_edge.bundle import nano_bundle, read_manifest, write_manifest
from vlj_edge.text_list import EVERYDAY, read_texts

FOUND = 0.05  # the share of everyday sentences for which something may be found

ARM = "the robot arm "
NAMED = ("a bicycle", "a dog", "a red car", "two people shake hands", "a child plays football", "rain falls")


@click.command()
@click.option("--streams", type=click.Path(path_type=Path, exists=True), default=Path("data/streams"))
@click.option("--bundle", type=click.Path(path_type=Path), help="The shipped nano bundle if not given.")
@click.option("--weights", type=click.Path(path_type=Path), help="Write the floor to labels.json here as well.")
@click.option("--out", type=click.Path(path_type=Path), help="Judge on the test streams, and write the results here.")
def main(streams: Path, bundle: Path | None, weights: Path | None, out: Path | None) -> None:
    bundle = bundle or nano_bundle()
    everyday = read_texts(str(EVERYDAY), "caption")
    manifest = read_manifest(bundle)
    with vlj_edge.load(bundle) as model:
        seen = embeddings(model, streams / "val")
        floor = chosen_floor(best_scores(model, everyday[::2], seen))
        found: dict[str, Any] = {"floor": floor}
        found["val"] = judge(model, streams / "val", seen, everyday[::2], floor)
        if out is not None:
            found["test"] = judge(model, streams / "test", embeddings(model, streams / "test"), everyday[1::2], floor)
    labels = replace(manifest.labels, search_floor=floor)
    write_manifest(bundle, replace(manifest, labels=labels))
    if weights is not None:
        (weights / "labels.json").write_text(json.dumps(asdict(labels), indent=1) + "\n")
    if out is not None:
        header = provenance("python calibrate_search.py --out ../../results/search-floor.json")
        out.write_text(json.dumps(header | found, indent=2) + "\n", encoding="utf-8")
    click.echo(json.dumps(found, indent=2))


def embeddings(model: vlj_edge.Model, folder: Path) -> np.ndarray:
    """Return the embeddings of all windows of all streams, as vlj-edge index stores them."""
    query = model.manifest.labels.query
    return np.stack([item.embedding for path in sorted(folder.glob("*.mp4")) for item in model.embed(path, query)])


def best_scores(model: vlj_edge.Model, texts: Sequence[str], seen: np.ndarray) -> np.ndarray:
    """Return the score of the nearest window to each text."""
    return (np.stack([model.embed_text(text) for text in texts]) @ seen.T).max(1)


def chosen_floor(scores: np.ndarray) -> float:
    """Return the floor, in hundredths, that a share of FOUND of these scores reach."""
    return math.ceil(float(np.quantile(scores, 1 - FOUND)) * 100) / 100


def judge(
    model: vlj_edge.Model, folder: Path, seen: np.ndarray, everyday: Sequence[str], floor: float
) -> dict[str, Any]:
    """Return how many texts of each kind find something in a library of these streams."""
    own = own_sentences(folder)
    kinds = {
        "everyday sentences": everyday,
        "own sentences": own,
        "the same without 'the robot arm'": [text.removeprefix(ARM) for text in own],
        "names of objects": sorted({task.thing for task in TASKS.values() if task.thing}),
    }
    scores = {kind: best_scores(model, texts, seen) for kind, texts in kinds.items()}
    found = {
        kind: {
            "texts": len(each),
            "found": round(float((each >= floor).mean()), 4),
            "lowest": round(float(each.min()), 3),
        }
        for kind, each in scores.items()
    }
    named = zip(NAMED, best_scores(model, NAMED, seen), strict=True)
    return {"windows": len(seen), "kinds": found, "scores": {text: round(float(score), 3) for text, score in named}}


def own_sentences(folder: Path) -> list[str]:
    """Return the captions of the actions in the streams of a folder."""
    captions: dict[str, None] = {}
    for path in sorted(folder.glob("*.json")):
        for event in json.loads(path.read_text(encoding="utf-8"))["events"]:
            captions |= dict.fromkeys(event["captions"] if event["phase"] == "act" else ())
    return list(captions)


if __name__ == "__main__":
    main()
