"""Public models at full size with random weights: parameters, size and export time by precision, CPU time by backend.

python benchmarks/models.py [NAME ...]      one after the other; up to 12 GB of memory

Sizes are those of the published models. The time of a window is that of the vision encoder alone, the backends in
turn; cosines are the lowest of all engines to torch in fp32, as the export measures them, and of OpenVINO's embedding
to that of ONNX Runtime.
"""

from __future__ import annotations

import gc
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
import torch
from common import RESULTS, ROOT, in_turn, milliseconds, write

sys.path.insert(0, str(ROOT))
from tests.export.families import test_full_size as full_size
from vlj_edge.bundle import Manifest, read_manifest
from vlj_edge.bundle.graph_files import graph_files
from vlj_edge.export.bundle import export_bundle
from vlj_edge.export.families.find import read_shape
from vlj_edge.export.families.things import things_shape
from vlj_edge.export.request import COMPARED_CLIPS, ExportRequest
from vlj_edge.export.weights.locations import WeightSources
from vlj_edge.runtime.engines.base import Engine, open_engine
from vlj_edge.runtime.video.clips import spread_clips

BACKENDS = ("onnxruntime", "openvino")
PRECISIONS = ("fp32", "fp16", "int8")


class Case(NamedTuple):
    """A published model.

    Attributes:
        make: writes its checkpoint at random weights; None: things, which is made of packages.
        runs: False: a window of it needs more memory and time than a small server has, and only sizes are found.
    """

    repository: str
    make: Callable[[Path], Any] | None
    precisions: Sequence[str] = PRECISIONS
    runs: bool = True


_SIGLIP_WORDS = {"vocab_size": 256_000}
_PE_WORDS = {"context_length": 32, "vocab_size": 49408, "width": 1024, "heads": 16, "layers": 24}
_CLIP_LARGE: dict[str, Any] = {
    "projection_dim": 768,
    "text_config": {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "projection_dim": 768},
    "vision_config": {
        "projection_dim": 768,
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "patch_size": 14,
    },
}
_VIT_G = {
    "hidden_size": 1408,
    "num_hidden_layers": 40,
    "num_attention_heads": 22,
    "mlp_ratio": 48 / 11,
    "crop_size": 384,
    "frames_per_clip": 64,
}
CASES = {
    "things": Case("things", None, ("fp32", "fp16")),
    "clip": Case("openai/clip-vit-base-patch32", full_size.clip),
    "clip-large": Case("openai/clip-vit-large-patch14", partial(full_size.clip, **_CLIP_LARGE)),
    "siglip2": Case("google/siglip2-base-patch16-224", partial(full_size.siglip2, **_SIGLIP_WORDS)),
    "naflex": Case(
        "google/siglip2-base-patch16-naflex", partial(full_size.naflex, num_hidden_layers=12, **_SIGLIP_WORDS)
    ),
    "pe-core": Case("timm/PE-Core-B-16", partial(full_size.pe_core, **_PE_WORDS)),
    "xclip": Case("microsoft/xclip-base-patch32", full_size.xclip),
    "videoprism": Case("google/videoprism-lvt-base-f16r288", full_size.videoprism),
    "vjepa2": Case("facebook/vjepa2-vitl-fpc16-256-ssv2", full_size.vjepa2),
    "vjepa2-giant": Case(
        "facebook/vjepa2-vitg-fpc64-384-ssv2", partial(full_size.vjepa2, **_VIT_G), ("fp32", "fp16"), runs=False
    ),
}
WEIGHTS = "*.safetensors"
DEMO = ROOT / "examples" / "media" / "demo.mp4"
ROUNDS = 5
SHIPPED = ROOT / "vlj_edge" / "models_measured.json"  # what `vlj-edge models` shows of results/models.json


def measure(case: Case) -> dict[str, Any]:
    """Export one model in every precision and time each."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as scratch:
        checkpoint = None if case.make is None else Path(scratch) / "checkpoint"
        found: dict[str, Any] = {}
        if case.make is not None and checkpoint is not None:
            case.make(checkpoint)
            gc.collect()
            found["million_parameters"] = round(sum(path.stat().st_size for path in checkpoint.glob(WEIGHTS)) / 4e6, 1)
        for precision in case.precisions:
            out = Path(scratch) / precision
            found[precision] = of_precision(case, checkpoint, out, precision)
            click.echo(f"  {precision}: {json.dumps(found[precision])}")
            shutil.rmtree(out)
    return found


def of_precision(case: Case, checkpoint: Path | None, out: Path, precision: str) -> dict[str, Any]:
    shape = things_shape() if checkpoint is None else read_shape(checkpoint)
    clips = spread_clips(DEMO, shape.clip, shape.preprocess, COMPARED_CLIPS + 4) if precision == "int8" else ()
    started = time.perf_counter()
    request = ExportRequest(WeightSources(checkpoint), shape, out, precision, clips=clips, check_parity=case.runs)
    done = export_bundle(request)
    seconds = time.perf_counter() - started
    gc.collect()
    manifest = read_manifest(out)
    found: dict[str, Any] = {
        "export_seconds": round(seconds, 1),
        "megabytes": {name: megabytes(out, name, manifest) for name in manifest.engines},
    }
    if case.runs:
        found |= {"cosine": round(min(row.cosine for row in done.parity), 6), **time_of_window(out, manifest)}
    return found


def megabytes(directory: Path, name: str, manifest: Manifest) -> float:
    file = manifest.engines[name].file
    files = {file, *graph_files(directory, file, manifest)}
    return round(sum(manifest.files[each].bytes for each in files) / 1e6, 1)


def time_of_window(directory: Path, manifest: Manifest) -> dict[str, Any]:
    """Return the milliseconds of the vision encoder on each backend that runs it, and how alike the embeddings are."""
    pixels = np.random.default_rng(0).normal(size=manifest.engines["vision_encoder"].inputs[0].shape)
    # OpenVINO would compute fp16 in fp32, and refuses it (runtime/engines/openvino.py).
    backends = BACKENDS[:1] if "fp16" in manifest.engines["vision_encoder"].precision else BACKENDS
    engines = {backend: open_engine(directory, manifest, "vision_encoder", backend=backend) for backend in backends}

    def run(engine: Engine) -> None:
        engine.inputs["pixels"][...] = pixels
        engine.run()
        engine.wait()

    seconds = in_turn(ROUNDS, **{backend: lambda engine=engine: run(engine) for backend, engine in engines.items()})
    found: dict[str, Any] = {"ms_a_window": {backend: milliseconds(each) for backend, each in seconds.items()}}
    if len(engines) == 2:
        ours, theirs = (engine.outputs["embedding"].astype(np.float64).ravel() for engine in engines.values())
        cosine = float(ours @ theirs / np.linalg.norm(ours) / np.linalg.norm(theirs))
        found["openvino_to_onnxruntime"] = round(cosine, 6)
    return found


def shipped(models: dict[str, Any]) -> dict[str, Any]:
    """Return of each model and precision what `vlj-edge models` shows: all engines, the faster backend."""
    return {
        repository: {precision: summary(found[precision]) for precision in PRECISIONS if precision in found}
        for repository, found in models.items()
    }


def summary(found: dict[str, Any]) -> dict[str, Any]:
    size = {"megabytes": round(sum(found["megabytes"].values()))}
    if "ms_a_window" not in found:
        return size
    return size | {"milliseconds": round(min(found["ms_a_window"].values())), "cosine": found["cosine"]}


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(CASES)))
def main(names: tuple[str, ...]) -> None:
    for name in names or CASES:
        case = CASES[name]
        repository = case.repository
        click.echo(repository)
        started = os.getloadavg()[0]
        found = measure(case) | {"load_of_the_machine": [round(started, 1), round(os.getloadavg()[0], 1)]}
        path = RESULTS / "models.json"
        before = json.loads(path.read_text(encoding="utf-8")).get("models", {}) if path.exists() else {}
        write("models.json", {"models": before | {repository: found}}, "python benchmarks/models.py")
        SHIPPED.write_text(json.dumps(shipped(before | {repository: found}), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
