"""The 24-layer vision encoder, 16 frames, beside transformers' VJEPA2Model and OpenVINO by itself, same weights.

python benchmarks/vision_encoder.py [--rounds 5]      (random weights; 17 GB)

Ours by both backends of the CPU; in bf16 where the processor has it, as `vlj-edge tune` would try it.

Equivalence: the final embedding through the same fp32 predictor, lowest cosine over clips of a real video.
"""

from __future__ import annotations

import tempfile
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
from vlj_edge.export.weights import Sources
from vlj_edge.presets import preset
from vlj_edge.runtime.clips import spread_clips
from vlj_edge.runtime.engine import open_engine
from vlj_edge.runtime.openvino.engine import has_bf16
from vlj_edge.runtime.tokens import Tokens

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
    sources = Sources(vision_encoder=weights, without_decoder=True, random=0)
    chosen = f"fp32,vision_encoder={precision}"
    export_bundle(sources, PRESET, out, precision=chosen, flavour=flavour, check_parity=False, clips=clips)
    return out


def final(bundle: Path, tokens: np.ndarray) -> np.ndarray:
    """The embedding that the predictor makes of visual tokens."""
    manifest = read_manifest(bundle)
    predictor = final.engines.setdefault(bundle, open_engine(bundle, manifest, "predictor"))  # type: ignore[attr-defined]
    ids, mask = Tokens(bundle, manifest, "query").encode(manifest.default_query)
    predictor.inputs["query_ids"][...], predictor.inputs["query_mask"][...] = ids, mask
    predictor.inputs["visual_tokens"][...] = tokens
    predictor.run()
    return predictor.outputs["embedding"][0].copy()


final.engines = {}  # type: ignore[attr-defined]


@click.command()
@click.option("--rounds", default=5, show_default=True)
@click.option("--keep", type=click.Path(path_type=Path), help="Bundles are exported to here, and used again if there.")
@click.option("--judged", default=3, show_default=True, help="Clips whose embeddings are compared.")
def main(rounds: int, keep: Path | None, judged: int) -> None:
    clips = spread_clips(DEMO, PRESET.clip, PRESET.preprocess, CALIBRATING)
    (ROOT / "build").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ROOT / "build") as scratch, torch.no_grad():
        at = keep or Path(scratch)
        theirs = reference(at / "vjepa2")
        bundles = {name: exported(at / "vjepa2", at / name, name, clips) for name in ("fp32", "int8")}
        portable = exported(at / "vjepa2", at / "portable", "fp32", clips, "portable")
        engines = {name: open_engine(b, read_manifest(b), "vision_encoder") for name, b in bundles.items()}
        for name, half in (("fp32", False), ("int8", has_bf16())):
            options = {"backend": "openvino", "bf16": half}
            called = f"{name}, openvino backend{', bf16' if half else ''}"
            engines[called] = open_engine(bundles[name], read_manifest(bundles[name]), "vision_encoder", **options)
        expected = [theirs(torch.from_numpy(c), skip_predictor=True).last_hidden_state.numpy() for c in clips[:judged]]
        aim = [final(bundles["fp32"], tokens) for tokens in expected]
        actions: dict[str, Any] = {
            "transformers": lambda: theirs(torch.from_numpy(clips[0]), skip_predictor=True),
            **{name: engine.run for name, engine in engines.items()},
        }
        found: dict[str, Any] = {"rounds": rounds, "judged": judged, "threads": torch.get_num_threads()}
        for name, engine in engines.items():
            cosines = []
            for clip, wanted in zip(clips[:judged], aim, strict=True):
                engine.inputs["pixels"][...] = clip
                engine.run()
                cosines.append(float(final(bundles["fp32"], engine.outputs["visual_tokens"]) @ wanted))
            found[name] = {"lowest_cosine_of_the_embedding": round(min(cosines), 7)}
        compiled = openvino.Core().compile_model(portable / "vision_encoder.onnx", "CPU")  # at its own defaults
        found["openvino"] = {"version": openvino.__version__}
        actions["openvino"] = lambda: compiled(clips[0])
        cosines = [
            float(final(bundles["fp32"], next(iter(compiled(clip).values()))) @ wanted)
            for clip, wanted in zip(clips[:judged], aim, strict=True)
        ]
        found["openvino"]["lowest_cosine_of_the_embedding"] = round(min(cosines), 7)
        seconds = in_turn(rounds, **actions)
    for name, values in seconds.items():
        found.setdefault(name, {})["milliseconds"] = milliseconds(values)
        found[name]["transformers_over_it"] = ratio(seconds["transformers"], values)
    print(found)
    write("runtime.json", {"vision encoder": found}, "the programs in benchmarks/")


if __name__ == "__main__":
    main()
