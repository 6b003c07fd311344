"""Speed of the 24-layer vision encoder on 16 frames, compared with transformers, plain OpenVINO and saccadic.

python benchmarks/vision_encoder.py [--rounds 5] [--saccadic]      (the same random weights for all; 15 GB or more)

Our exports run on both CPU backends, and in bf16 if the processor has it, as `vlj-edge tune` would try it.
Equivalence is the lowest cosine of the final embedding, through the same fp32 predictor, over clips of a real video.
"""

from __future__ import annotations

import importlib.metadata
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from common import ROOT, in_turn, milliseconds, ratio, write
from transformers import VJEPA2Config, VJEPA2Model

from vlj_edge import ExportRequest, WeightSources, export_bundle, preset
from vlj_edge.bundle import read_manifest
from vlj_edge.runtime.engines.base import Engine, open_engine
from vlj_edge.runtime.engines.openvino import has_bf16
from vlj_edge.runtime.video.clips import spread_clips
from vlj_edge.runtime.words.tokenizer import FixedLengthTokenizer
from vlj_edge.telemetry import import_openvino

Encode = Callable[[np.ndarray], np.ndarray]  # pixels of a clip -> its visual tokens

DEMO = ROOT / "examples" / "media" / "demo.mp4"
PRESET = preset("vl-jepa-1.6b")
CALIBRATION_CLIPS = 8


def reference(directory: Path) -> VJEPA2Model:
    """Return transformers' ViT-L with random weights, which are saved to `directory` for the export."""
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


def predict(bundle: Path, tokens: np.ndarray) -> np.ndarray:
    """Return the embedding that the bundle's predictor computes from visual tokens."""
    manifest = read_manifest(bundle)
    predictor = open_predictor(bundle)
    ids, mask = FixedLengthTokenizer(bundle, manifest, "query").encode(manifest.default_query)
    predictor.inputs["query_ids"][...], predictor.inputs["query_mask"][...] = ids, mask
    predictor.inputs["visual_tokens"][...] = tokens
    predictor.run()
    return predictor.outputs["embedding"][0].copy()


@cache
def open_predictor(bundle: Path) -> Engine:
    return open_engine(bundle, read_manifest(bundle), "predictor")


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


def by_plain_openvino(graph: Path) -> Encode:
    """OpenVINO with its default settings, which use bf16 if the processor has it."""
    compiled = import_openvino().Core().compile_model(graph, "CPU")
    return lambda clip: np.asarray(next(iter(compiled(clip).values())))


def by_saccadic(weights: Path, scheme: str | None) -> Encode:
    """saccadic's own loader on these weights. Its int8 covers only the weights of the MLPs, by torchao. Its encoder
    also runs V-JEPA 2's own predictor and drops the output."""
    from saccade import CHECKPOINTS, ModelConfig, QuantConfig, load_encoder

    frames = PRESET.clip.frames
    CHECKPOINTS["here"] = replace(CHECKPOINTS["vitl"], hf_repo_id=str(weights), frames=frames)
    config = ModelConfig(checkpoint="here", frames=frames, device="cpu", dtype="float32")
    return by_torch(load_encoder(config, QuantConfig(scheme=scheme) if scheme else None))


@click.command()
@click.option("--rounds", default=5, show_default=True)
@click.option("--keep", type=click.Path(path_type=Path), help="Keep the exported bundles here and reuse them.")
@click.option("--judged", default=3, show_default=True, help="Clips whose embeddings are compared.")
@click.option("--saccadic", is_flag=True, help="Compare with saccadic too: pip install --no-deps saccadic torchao")
def main(rounds: int, keep: Path | None, judged: int, saccadic: bool) -> None:
    clips = spread_clips(DEMO, PRESET.clip, PRESET.preprocess, CALIBRATION_CLIPS)
    (ROOT / "build").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ROOT / "build") as scratch, torch.no_grad():
        folder = keep or Path(scratch)
        weights = folder / "vjepa2"
        theirs = by_torch(reference(weights), skip_predictor=True)
        bundles = {name: exported(weights, folder / name, name, clips) for name in ("fp32", "int8")}
        encoders = {"transformers": theirs, **{name: by_engine(bundle) for name, bundle in bundles.items()}}
        for name, half in (("fp32", False), *((name, True) for name in bundles if has_bf16())):
            label = f"{name}, openvino backend{', bf16' if half else ''}"
            encoders[label] = by_engine(bundles[name], "openvino", half)
        portable = exported(weights, folder / "portable", "fp32", clips, "portable")
        encoders["openvino"] = by_plain_openvino(portable / "vision_encoder.onnx")
        if saccadic:
            encoders |= {"saccadic": by_saccadic(weights, None), "saccadic, int8": by_saccadic(weights, "int8")}
        embeddings = {
            name: np.stack([predict(bundles["fp32"], encode(clip)) for clip in clips[:judged]])
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
