"""What is saved, and what is lost, by computing the tokens of a clip that carry news (runtime/gating/kept_tokens.py).

python benchmarks/tokens.py VIDEO ...               (nano; such as streams of examples/train_nano/make_stream.py)
python benchmarks/tokens.py --random VIDEO ...      (ViT-L, 16 frames, and the 1.6 B predictor at random weights; 12 GB)

Windows of the VIDEOs are encoded with all tokens and with those of `auto`, in both orders in turn: milliseconds of
encoder and predictor, share of the tokens, cosine of the two embeddings, and of nano, whether both give the same text.
nano also narrates annotated streams (events in VIDEO's name with .json) live, both ways.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
from common import write

from narration_score import score  # isort: skip (common adds its folder to the path)

import vlj_edge
from vlj_edge import ExportRequest, Model, WeightSources, export_bundle, preset, shipped_weights
from vlj_edge.runtime.gating.kept_tokens import TokenSelector

SHARES = (0.25, 0.37, 0.5, 0.75)


def export(folder: Path, random: bool) -> Path:
    """Export nano, or the 1.6 B model without texts at random weights, with SHARES."""
    if random:
        sources, shape = WeightSources(random=0, without_decoder=True), preset("vl-jepa-1.6b")
    else:
        sources, shape = WeightSources(shipped_weights()), preset("nano")
    request = ExportRequest(sources, shape, folder / "bundle", token_shares=SHARES, check_parity=not random)
    return export_bundle(request).bundle


def compare(model: Model, video: Path, every: int, most: int) -> dict[str, Any]:
    """Encode every `every`-th window that moves, `most` of them, with all tokens and with those that carry news."""
    tokens, gates = model.manifest.tokens, model.manifest.gates
    assert tokens is not None
    query = model.chain.query(None)
    milliseconds: dict[str, list[float]] = {"all": [], "auto": []}
    shares, cosines, same, choices = [], [], [], []
    with model.see(video) as run:
        for number, window in enumerate(run):
            if number % every or window.at_rest or len(shares) == most:
                continue
            started = time.thread_time()
            kept = TokenSelector(gates.scene, tokens, window.noise, "auto").choose(window.frames)
            choices.append(1e3 * (time.thread_time() - started))
            found = {}
            for name in ("all", "auto") if len(shares) % 2 else ("auto", "all"):
                started = time.process_time()
                [encoded] = model.chain.encode(window.frames, [query], kept=kept if name == "auto" else None)
                milliseconds[name].append(1e3 * (time.process_time() - started))
                found[name] = encoded.embedding
            shares.append(1.0 if kept is None else len(kept) / tokens.counts[-1])
            cosines.append(float(found["all"] @ found["auto"]))
            if model.chain.makes_texts:
                same.append(model.chain.decode(found["all"])[0] == model.chain.decode(found["auto"])[0])
    median = {name: float(np.median(values)) for name, values in milliseconds.items()}
    return {
        "windows": len(shares),
        "share": round(float(np.mean(shares)), 3),
        "shares": {
            f"{count / tokens.counts[-1]:.2f}": shares.count(count / tokens.counts[-1]) for count in tokens.counts
        },
        "cpu_milliseconds": {name: round(value, 2) for name, value in median.items()},
        "choice_milliseconds": round(float(np.median(choices)), 2),
        "times_less": round(median["all"] / median["auto"], 2),
        "cosine": {"mean": round(float(np.mean(cosines)), 4), "p5": round(float(np.quantile(cosines, 0.05)), 4)},
    } | ({"same_text": round(float(np.mean(same)), 3)} if same else {})


def narrate(bundle: Path, video: Path) -> dict[str, Any]:
    """Narrate an annotated stream live with all tokens and with those that carry news."""
    events = json.loads(video.with_suffix(".json").read_text(encoding="utf-8"))["events"]
    found = {}
    for choice in ("all", "auto"):
        with vlj_edge.load(bundle, threads=1, tokens="auto" if choice == "auto" else "all") as model:
            run = model.narrate(video)
            found[choice] = score(events, list(run)) | {"kept": run.totals.tokens_kept, "of": run.totals.tokens}
    return found


@click.command()
@click.option("--random", is_flag=True, help="ViT-L and the 1.6 B predictor at random weights.")
@click.option("--bundle", type=click.Path(path_type=Path), help="What was exported before with these token shares.")
@click.option("--every", default=4, show_default=True, help="Encode every so manieth window.")
@click.option("--most", default=100, show_default=True, help="Most windows of a video.")
@click.argument("videos", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
def main(random: bool, bundle: Path | None, every: int, most: int, videos: tuple[Path, ...]) -> None:
    """Measure each of VIDEOS and write results/tokens.json."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        bundle = bundle or export(Path(scratch), random)
        with vlj_edge.load(bundle, threads=1) as model:
            for video in videos:
                name = f"{video.parent.name}/{video.name}"
                found[name] = compare(model, video, every, most)
                if not random and video.with_suffix(".json").exists():
                    found[name]["live"] = narrate(bundle, video)
                print(name, found[name], flush=True)
    name = "vit-l and 1.6b predictor, random weights" if random else "nano"
    options = f"{'--random ' if random else ''}--every {every} --most {most}"
    command = f"python benchmarks/tokens.py {options} VIDEO ..."
    write("tokens.json", {name: {"command": command} | found}, "python benchmarks/tokens.py VIDEO ..., as below")


if __name__ == "__main__":
    main()
