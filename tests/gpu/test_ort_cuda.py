"""nano on ONNX Runtime's CUDA provider, compared with the CPU: engine by engine, texts, CUDA graphs, TF32."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.cli.command import json_lines, vlj_edge
from vlj_edge.bundle import nano_bundle, read_manifest
from vlj_edge.errors import VljEdgeError
from vlj_edge.runtime.engines.base import Array, open_engine
from vlj_edge.runtime.engines.cuda_check import find_card

DEMO = Path(__file__).parents[2] / "examples" / "media" / "demo.mp4"


@pytest.fixture(scope="module", autouse=True)
def cuda() -> None:
    try:
        find_card()
    except VljEdgeError as error:
        pytest.skip(str(error))


def outputs(name: str, backend: str, runs: int = 1) -> list[dict[str, Array]]:
    """Return what an engine gives for a few inputs; each is run several times, since the first runs record a graph."""
    manifest = read_manifest(nano_bundle())
    engine, found = open_engine(nano_bundle(), manifest, name, backend=backend), []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        for tensor in manifest.engines[name].inputs:
            floating = np.issubdtype(np.dtype(tensor.dtype), np.floating)
            values = rng.normal(size=tensor.shape) * 0.5 if floating else np.ones(tensor.shape)
            if tensor.name in engine.inputs:
                engine.inputs[tensor.name][...] = 0 if tensor.name == "position" else values
        for _ in range(runs):
            engine.run()
            engine.wait()
        found.append({key: array.copy() for key, array in engine.outputs.items() if "cache" not in key})
    return found


@pytest.mark.parametrize("name", ["vision_encoder", "predictor", "text_encoder", "decoder"])
@pytest.mark.parametrize(("backend", "tolerance"), [("cuda", 1e-3), ("cuda-tf32", 2e-2), ("cuda+cpu", 1e-3)])
def test_every_engine_agrees_with_the_cpu(name: str, backend: str, tolerance: float) -> None:
    for ours, theirs in zip(outputs(name, backend, runs=3), outputs(name, "onnxruntime"), strict=True):
        for key, array in ours.items():
            scale = max(1.0, float(np.abs(theirs[key].astype(np.float64)).max()))
            np.testing.assert_allclose(array, theirs[key], atol=tolerance * scale, err_msg=f"{name}: {key}")


def test_it_narrates_the_same_with_the_engines_in_two_threads() -> None:
    ours = vlj_edge("narrate", DEMO, "--json", "-v", "--backend", "cuda")
    assert ours.returncode == 0 and "without TF32, one CUDA graph an engine" in ours.stderr, ours.stderr
    theirs = vlj_edge("narrate", DEMO, "--json", "--backend", "onnxruntime")
    texts, expected = ([line["text"] for line in json_lines(done.stdout)[0]] for done in (ours, theirs))
    assert texts == expected


def test_fp16_agrees(tmp_path: Path) -> None:
    made = vlj_edge("export", "--fp16", "--skip-parity", "--out", tmp_path / "half")
    assert made.returncode == 0, made.stderr
    done = vlj_edge("verify", tmp_path / "half", "--backend", "cuda", "--source", DEMO)
    assert done.returncode == 0 and "fp16" in done.stdout, done.stdout + done.stderr


def test_tune_measures_it(tmp_path: Path) -> None:
    own = shutil.copytree(nano_bundle(), tmp_path / "nano", ignore=shutil.ignore_patterns("engines"))
    done = vlj_edge("tune", own)
    assert done.returncode == 0 and "cuda" in done.stdout and "left out" not in done.stderr, done.stderr
