"""What windows of several cameras would cost in one batch: nano's vision encoder and predictor on 1, 2, 4 and 8 clips.

python benchmarks/batching.py [--rounds 20]

The graphs are exported for each size with the same weights. Equivalence is the largest difference between the tokens of
a clip in a batch and alone. Milliseconds are CPU time of one thread and time by the clock on all cores, each a clip.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnxruntime
import openvino
import torch
from common import in_turn, milliseconds, write
from safetensors.torch import load_file

from vlj_edge import preset, shipped_weights
from vlj_edge.export.models.vl_jepa import VLJepa
from vlj_edge.export.onnx.graph import save, to_onnx

SIZES = (1, 2, 4, 8)
PRESET = preset("nano")


def trained() -> VLJepa:
    """Return nano with the weights that ship."""
    weights = shipped_weights()
    model = VLJepa(PRESET)
    model.load_state_dict(load_file(weights / "model.safetensors"), strict=False)
    return model.eval()


def exported(model: VLJepa, folder: Path, size: int) -> Path:
    """Export the vision encoder for this many clips."""
    crop = PRESET.preprocess.crop
    pixels = torch.zeros(size, PRESET.clip.frames, 3, crop, crop)
    path = folder / f"encoder{size}.onnx"
    save(to_onnx(model.vision_encoder, {"pixels": pixels}, ["visual_tokens"], 23), path)
    return path


def opened(path: Path, backend: str, threads: int) -> Any:
    """Return a function from pixels to tokens."""
    if backend == "onnxruntime":
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return lambda pixels: session.run(None, {"pixels": pixels})[0]
    settings = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    request = openvino.Core().compile_model(str(path), "CPU", settings).create_infer_request()
    return lambda pixels: request.infer({"pixels": pixels})[0].copy()


def measure(paths: dict[int, Path], backend: str, threads: int, rounds: int) -> dict[str, Any]:
    """Time every size in turn: on one thread CPU time, on more time by the clock."""
    runs = {size: opened(path, backend, threads) for size, path in paths.items()}
    crop = PRESET.preprocess.crop
    clips = np.random.default_rng(0).standard_normal((max(SIZES), PRESET.clip.frames, 3, crop, crop), np.float32)
    alone = np.concatenate([runs[1](clips[at : at + 1]) for at in range(len(clips))])
    seconds = in_turn(
        rounds,
        clock=time.process_time if threads == 1 else time.perf_counter,
        **{str(size): lambda size=size: runs[size](clips[:size]) for size in SIZES},
    )
    return {
        "milliseconds_a_clip": {name: milliseconds(values, int(name)) for name, values in seconds.items()},
        "largest_difference": max(float(np.abs(runs[size](clips[:size]) - alone[:size]).max()) for size in SIZES),
    }


@click.command()
@click.option("--rounds", default=20, show_default=True)
def main(rounds: int) -> None:
    """Measure both backends and write results/batching.json."""
    model, found = trained(), {}
    with tempfile.TemporaryDirectory() as scratch, torch.inference_mode():
        paths = {size: exported(model, Path(scratch), size) for size in SIZES}
        for backend in ("onnxruntime", "openvino"):
            for threads in (1, 2):
                name = f"{backend}, {threads} thread{'s' if threads > 1 else ''}"
                found[name] = measure(paths, backend, threads, rounds)
                print(name, found[name], flush=True)
    write("batching.json", found, f"python benchmarks/batching.py --rounds {rounds}")


if __name__ == "__main__":
    main()
