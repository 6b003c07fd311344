"""TensorRT or TensorRT-RTX on a real GPU: build, compare engine by engine, narrate."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.cli.command import json_lines, vlj_edge
from vlj_edge.bundle import nano_bundle
from vlj_edge.runtime.engines.tensorrt.device import Device
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


def test_every_engine_agrees_with_onnx_runtime(bundle: Path) -> None:
    done = vlj_edge("verify", bundle, "--backend", "tensorrt", "--source", DEMO)
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_is_the_default_and_narrates_the_same(bundle: Path) -> None:
    ours = vlj_edge("narrate", DEMO, "--bundle", bundle, "--json", "-v")
    assert ours.returncode == 0 and ours.stderr.startswith("backend: tensorrt"), ours.stderr
    theirs = vlj_edge("narrate", DEMO, "--bundle", bundle, "--json", "--backend", "onnxruntime")
    texts, expected = ([line["text"] for line in json_lines(done.stdout)[0]] for done in (ours, theirs))
    assert texts == expected
