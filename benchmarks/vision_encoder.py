"""The 24-layer vision encoder, 16 frames, beside transformers' VJEPA2Model, OpenVINO by itself and saccadic.

python benchmarks/vision_encoder.py [--rounds 5] [--saccadic]      (the same random weights for all; 15 GB or more)

Ours by both backends of the CPU; in bf16 where the processor has it, as `vlj-edge tune` would try it.

Equivalence: the final embedding through the same fp32 predictor, lowest cosine over clips of a real video.
"""

from __future__ import annotations

import importlib.metadata
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import openvino
import torch
from common import ROOT, in_turn, milliseconds, ratio, write
from transformers import VJEPA2Config, VJEPA2Model

from vlj_edge.bundle import read_manifest
from vlj_edge.export.bundle import export_bundle
from vlj_edge.export.request import ExportRequest
from vlj_edge.export.weights.locations import WeightSources
from vlj_edge.presets import preset
from vlj_edge.runtime.engines.base import open_engine
from vlj_edge.runtime.engines.openvino import has_bf16
from vlj_edge.runtime.video.clips import spread_clips
from vlj_edge.runtime.words.tokenizer import FixedLengthTokenizer

Encode = Callable[[np.ndarray], np.ndarray]  # a clip's pixels to its visual tokens

DEMO = ROOT / "examples" / "media" / "demo.mp4"
PRESET = preset("vl-jepa-1.6b")
CALIBRATING = 8


def reference(directory: Path) -> VJEPA2Model:
    """transformers' ViT-L with random weights, saved where the export finds them."""
    torch.manual_seed(0)
    config = VJEPA2Config(attn_implementation="sdpa")
    assert (config.hidden_size, config.num_hidden_layers, config.crop_size) == (1024, 24, 256)
    config.frames_per_clip = PRESET.clip.frames
    model = VJEPA2Model(config).eval()
    model.save_pretrained(directory)
    return model


def exported(weights: Path, out: Path, precision: str, clips: list[np.ndarray], flavour: str = "native") -> Path:
    if out.exists():
        return out
    sources = WeightSources(vision_encoder=weights, without_decoder=True, random=0)
    chosen = f"fp32,vision_encoder={precision}"
    export_bundle(
        ExportRequest(sources, PRESET, out, precision=chosen, flavour=flavour, check_parity=False, clips=clips)
    )
    return out


def final(bundle: Path, tokens: np.ndarray) -> np.ndarray:
    """The embedding that the predictor makes of visual tokens."""
    manifest = read_manifest(bundle)
    predictor = final.engines.setdefault(bundle, open_engine(bundle, manifest, "predictor"))  # type: ignore[attr-defined]
    ids, mask = FixedLengthTokenizer(bundle, manifest, "query").encode(manifest.default_query)
    predictor.inputs["query_ids"][...], predictor.inputs["query_mask"][...] = ids, mask
    predictor.inputs["visual_tokens"][...] = tokens
    predictor.run()
    return predictor.outputs["embedding"][0].copy()


final.engines = {}  # type: ignore[attr-defined]


def by_engine(bundle: Path, backend: str = "onnxruntime", bf16: bool = False) -> Encode:
    engine = open_engine(bundle, read_manifest(bundle), "vision_encoder", backend=backend, bf16=bf16)

    def encode(clip: np.ndarray) -> np.ndarray:
        engine.inputs["pixels"][...] = clip
        engine.run()
        return engine.outputs["visual_tokens"]

    return encode


def by_torch(model: torch.nn.Module, **options: Any) -> Encode:
    def encode(clip: np.ndarray) -> np.ndarray:
        found = model(torch.from_numpy(clip), **options)
        return np.asarray(getattr(found, "last_hidden_state", found))

    return encode


def by_openvino_itself(graph: Path) -> Encode:
    """At its own defaults, which take bf16 where the processor has it."""
    compiled = openvino.Core().compile_model(graph, "CPU")
    return lambda clip: np.asarray(next(iter(compiled(clip).values())))


def by_saccadic(weights: Path, scheme: str | None) -> Encode:
    """Its own loader on these weights. What it calls int8 are the weights of the MLPs alone, by torchao; its encoder
    runs V-JEPA 2's own predictor as well, and drops what comes out."""
    from saccade import CHECKPOINTS, ModelConfig, QuantConfig, load_encoder

    frames = PRESET.clip.frames
    CHECKPOINTS["here"] = replace(CHECKPOINTS["vitl"], hf_repo_id=str(weights), frames=frames)
    wanted = ModelConfig(checkpoint="here", frames=frames, device="cpu", dtype="float32")
    return by_torch(load_encoder(wanted, QuantConfig(scheme=scheme) if scheme else None))


@click.command()
@click.option("--rounds", default=5, show_default=True)
@click.option("--keep", type=click.Path(path_type=Path), help="Bundles are exported to here, and used again if there.")
@click.option("--judged", default=3, show_default=True, help="Clips whose embeddings are compared.")
@click.option("--saccadic", is_flag=True, help="Beside saccadic too: pip install --no-deps saccadic torchao")
def main(rounds: int, keep: Path | None, judged: int, saccadic: bool) -> None:
    clips = spread_clips(DEMO, PRESET.clip, PRESET.preprocess, CALIBRATING)
    (ROOT / "build").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ROOT / "build") as scratch, torch.no_grad():
        at = keep or Path(scratch)
        weights = at / "vjepa2"
        theirs = by_torch(reference(weights), skip_predictor=True)
        bundles = {name: exported(weights, at / name, name, clips) for name in ("fp32", "int8")}
        encoders = {"transformers": theirs, **{name: by_engine(bundle) for name, bundle in bundles.items()}}
        for name, half in (("fp32", False), *((name, True) for name in bundles if has_bf16())):
            called = f"{name}, openvino backend{', bf16' if half else ''}"
            encoders[called] = by_engine(bundles[name], "openvino", half)
        portable = exported(weights, at / "portable", "fp32", clips, "portable")
        encoders["openvino"] = by_openvino_itself(portable / "vision_encoder.onnx")
        if saccadic:
            encoders |= {"saccadic": by_saccadic(weights, None), "saccadic, int8": by_saccadic(weights, "int8")}
        embeddings = {
            name: np.stack([final(bundles["fp32"], encode(clip)) for clip in clips[:judged]])
            for name, encode in encoders.items()
        }
        seconds = in_turn(rounds, **{name: partial(encode, clips[0]) for name, encode in encoders.items()})
    found: dict[str, Any] = {"rounds": rounds, "judged": judged, "threads": torch.get_num_threads()}
    for name, values in seconds.items():
        cosines = (embeddings[name] * embeddings["transformers"]).sum(axis=1)
        found[name] = {
            "lowest_cosine_of_the_embedding": round(float(cosines.min()), 7),
            "milliseconds": milliseconds(values),
            "transformers_over_it": ratio(seconds["transformers"], values),
        }
    others = ("openvino", *(("saccadic", "torchao") if saccadic else ()))
    found["others"] = {name: importlib.metadata.version(name) for name in others}
    print(found)
    write("runtime.json", {"vision encoder": found}, "the programs in benchmarks/")


if __name__ == "__main__":
    main()
