"""TensorRT or TensorRT-RTX on a real GPU: build, compare engine by engine, narrate."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.cli.command import json_lines, vlj_edge
from vlj_edge.bundle import nano_bundle
from vlj_edge.runtime.engines.tensorrt.device import Device
from vlj_edge.runtime.model import Model
from vlj_edge.runtime.video.uri import open_source
from vlj_edge.tensorrt_package import installed

DEMO = Path(__file__).parents[2] / "examples" / "media" / "demo.mp4"


@pytest.fixture(scope="module", params=["fp32", "fp16"])
def bundle(request: pytest.FixtureRequest, card: Device, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not installed():
        pytest.skip("neither TensorRT nor TensorRT-RTX is installed")
    out = tmp_path_factory.mktemp("gpu") / request.param
    if request.param == "fp32":
        shutil.copytree(nano_bundle(), out, ignore=shutil.ignore_patterns("engines"))
    else:
        done = vlj_edge("export", "--fp16", "--skip-parity", "--out", out)
        assert done.returncode == 0, done.stderr
    built = vlj_edge("build", out)
    assert built.returncode == 0, built.stderr
    return out


def test_every_share_of_tokens_gives_what_onnx_runtime_gives(card: Device, tmp_path: Path) -> None:
    if not installed():
        pytest.skip("neither TensorRT nor TensorRT-RTX is installed")
    out = tmp_path / "tokens"
    for command in (
        ("export", "--token-shares", "25,50,75", "--skip-parity", "--no-decoder", "--out", out),
        ("build", out),
    ):
        done = vlj_edge(*command)
        assert done.returncode == 0, done.stderr
    with Model(out, backend="tensorrt") as ours, Model(out, backend="onnxruntime") as theirs:
        query, rng = [ours.chain.query(None)], np.random.default_rng(0)
        with open_source(DEMO, end=4) as source, ours.see(source) as run:
            frames = next(iter(run)).frames
        assert ours.manifest.tokens is not None
        for count in (*ours.manifest.tokens.counts, *ours.manifest.tokens.counts):  # each again, from its graph
            kept = np.sort(rng.permutation(ours.manifest.tokens.counts[-1])[:count])
            [a], [b] = (model.chain.encode(frames, query, kept=kept) for model in (ours, theirs))
            assert float(a.embedding @ b.embedding) > 0.999


def test_every_engine_agrees_with_onnx_runtime(bundle: Path) -> None:
    done = vlj_edge("verify", bundle, "--backend", "tensorrt", "--source", DEMO)
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_is_the_default_and_narrates_the_same(bundle: Path) -> None:
    ours = vlj_edge("narrate", DEMO, "--bundle", bundle, "--json", "-v")
    assert ours.returncode == 0 and ours.stderr.startswith("backend: tensorrt"), ours.stderr
    theirs = vlj_edge("narrate", DEMO, "--bundle", bundle, "--json", "--backend", "onnxruntime")
    texts, expected = ([line["text"] for line in json_lines(done.stdout)[0]] for done in (ours, theirs))
    assert texts == expected
