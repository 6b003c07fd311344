"""CIDEr of two bundles' decoders on the same embeddings: streams of examples/train_nano, one text a second.

python compare.py --out ../../results/train-decoder.json
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import click
import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "train_nano"))
from figures import interval  # noqa: E402
from provenance import provenance  # noqa: E402

import vlj_edge  # noqa: E402
from vlj_edge.bundle import MANIFEST, nano_bundle, seal  # noqa: E402
from vlj_edge.runtime.evaluation.cider import Cider  # noqa: E402


def embeddings_of(video: Path, seconds: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the centres (n,), seconds, and embeddings (n, 384) of one window a second."""
    with vlj_edge.load() as model:
        items = list(model.embed(video, every_window=True))
    centres = np.array([item.window.centre for item in items])
    chosen = np.unique([int(np.abs(centres - second).argmin()) for second in np.arange(1, seconds)])
    return centres[chosen], np.stack([items[i].embedding for i in chosen])


def score(model: vlj_edge.Model, streams: list[dict[str, Any]]) -> dict[str, Any]:
    """Return CIDEr of every event against the text nearest to its middle, and the time that a text takes."""
    cider = Cider([event["captions"] for stream in streams for event in stream["events"]])
    scores, group, tokens, seconds, texts = [], [], 0, [], 0
    for number, stream in enumerate(streams):
        decoded = []
        for embedding in stream["embeddings"]:
            started = time.perf_counter()
            text, runs = model.chain.decode(embedding)
            seconds.append(time.perf_counter() - started)
            decoded.append(text)
            tokens, texts = tokens + runs, texts + 1
        for event in stream["events"]:
            nearest = int(np.abs(stream["centres"] - (event["start"] + event["end"]) / 2).argmin())
            scores.append(cider.score(len(scores), decoded[nearest]))
            group.append(number)
    milliseconds = round(float(np.median(seconds)) * 1e3, 2)
    return {
        "cider": interval(np.array(scores), np.array(group)),
        "texts": texts,
        "tokens_a_text": round(tokens / texts, 2),
        "milliseconds_a_text": milliseconds,
    }


def shuffled(streams: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same embeddings in another order, over all streams: what a text is worth that belongs to another moment."""
    rng, streams = np.random.default_rng(0), streams[:1]  # a language model on two cores takes its time
    pool = np.concatenate([stream["embeddings"] for stream in streams])
    return [stream | {"embeddings": pool[rng.integers(len(pool), size=len(stream["centres"]))]} for stream in streams]


@click.command()
@click.option("--bundle", "bundles", type=click.Path(path_type=Path), multiple=True, required=True)
@click.option("--streams", type=click.Path(path_type=Path), default=HERE.parent / "train_nano" / "data/streams/test")
@click.option("--count", default=4, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
def main(bundles: tuple[Path, ...], streams: Path, count: int, out: Path) -> None:
    """Score the decoder of each BUNDLE, and of nano, on nano's embeddings of the test streams."""
    described = []
    for video in sorted(streams.glob("*.mp4"))[:count]:
        annotation = json.loads(video.with_suffix(".json").read_text(encoding="utf-8"))
        centres, embeddings = embeddings_of(video, annotation["seconds"])
        described.append({"centres": centres, "embeddings": embeddings, "events": annotation["events"]})
    report = provenance(" ".join(["python compare.py", *sys.argv[1:]]))
    report |= {"streams": len(described), "events": sum(len(stream["events"]) for stream in described)}
    for directory in (nano_bundle(), *bundles):
        model = vlj_edge.load(directory)
        figures = {"bundle": seal(directory / MANIFEST).sha256} | score(model, described)
        figures["cider_of_shuffled_embeddings"] = score(model, shuffled(described))["cider"]["value"]
        report["nano" if directory == nano_bundle() else directory.name] = figures
        click.echo(f"{directory.name}: CIDEr {figures['cider']['value']}, {figures['milliseconds_a_text']} ms a text")
    out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
