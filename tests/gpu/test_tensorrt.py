"""TensorRT or TensorRT-RTX on a real card: built, compared engine by engine, and narrating."""

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
        pytest.skip("no TensorRT is installed")
    out = tmp_path_factory.mktemp("gpu") / request.param
    if request.param == "fp32":
        shutil.copytree(nano_bundle(), out, ignore=shutil.ignore_patterns("engines"))
    else:
        done = vlj_edge("export", "--fp16", "--skip-parity", "--out", out)
        assert done.returncode == 0, done.stderr
    built = vlj_edge("build", out)
    assert built.returncode == 0, built.stderr
    return out


def test_every_engine_computes_what_onnx_runtime_does(bundle: Path) -> None:
    done = vlj_edge("verify", bundle, "--backend", "tensorrt", "--source", DEMO)
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_is_chosen_and_narrates_the_same(bundle: Path) -> None:
    ours = vlj_edge("narrate", DEMO, "--bundle", bundle, "--json", "-v")
    assert ours.returncode == 0 and ours.stderr.startswith("backend: tensorrt"), ours.stderr
    theirs = vlj_edge("narrate", DEMO, "--bundle", bundle, "--json", "--backend", "onnxruntime")
    said, expected = ([line["text"] for line in json_lines(done.stdout)[0]] for done in (ours, theirs))
    assert said == expected
