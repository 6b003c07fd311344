"""Real engines for parts of a clip's tokens, from real TensorRT-RTX: an optimization profile for each number."""

from __future__ import annotations

import platform
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tests.cli.command import run_here
from vlj_edge.bundle import Manifest, read_manifest
from vlj_edge.bundle.engine_cache import RuntimeId, find_engine, read_engine, read_report
from vlj_edge.errors import VljEdgeError
from vlj_edge.export.tensorrt import network as networks
from vlj_edge.export.tensorrt.build import build_engines
from vlj_edge.tensorrt_package import TensorRtPackage, import_tensorrt

pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64", reason="TensorRT-RTX has no package for this machine; on x86-64 it must be there"
)
VISION = ("vision_encoder", "predictor")


@pytest.fixture(scope="module")
def trt() -> TensorRtPackage:
    return import_tensorrt("tensorrt_rtx")


@pytest.fixture(autouse=True)
def own_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


@pytest.fixture
def bundle(token_bundle: Path, tmp_path: Path) -> Path:
    return shutil.copytree(token_bundle, tmp_path / "bundle")


def ahead(trt: TensorRtPackage) -> RuntimeId:
    return RuntimeId(trt.package, trt.version, "sm86", None)


def plan_of(bundle: Path, manifest: Manifest, name: str, trt: TensorRtPackage) -> bytes:
    return read_engine(find_engine(bundle, manifest, name, replace(ahead(trt), device="a card")))


def test_an_engine_for_all_tokens_is_built_again_for_every_number(bundle: Path, trt: TensorRtPackage) -> None:
    manifest = read_manifest(bundle)
    assert manifest.tokens is not None
    whole = replace(manifest, tokens=replace(manifest.tokens, counts=manifest.tokens.counts[-1:]))
    build_engines(bundle, whole, trt, ahead(trt), names=["predictor"])
    done = run_here("build", bundle, "--target", "sm86", "--engine", "predictor")
    assert done.returncode == 0, done.stderr
    assert "predictor: takes 8, 16 or all 32 tokens" in done.stdout and "current" not in done.stdout
    assert read_report(bundle, "predictor", ahead(trt))["tokens"] == [8, 16, 32]
    [again] = build_engines(bundle, manifest, trt, ahead(trt), names=["predictor"])
    assert again.again and list(again.tokens) == [8, 16, 32]


def test_profiles_have_fixed_shapes_and_share_the_weights_of_the_first(bundle: Path, trt: TensorRtPackage) -> None:
    spec = read_manifest(bundle).engines["predictor"]
    network = networks.parse(trt, bundle / spec.file)
    networks.check(network, bundle / spec.file, spec)
    added: list[Any] = []

    class Config:
        num_optimization_profiles = property(lambda self: len(added))

        def add_optimization_profile(self, profile: Any) -> int:
            added.append(profile)
            return len(added) - 1 if len(added) < 4 else -1

    networks.add_profiles(network, Config(), spec, (8, 16, 32))
    for profile, count in zip(added, (32, 16, 8), strict=True):
        shapes = {name: [tuple(shape) for shape in profile.get_shape(name)] for name in ("visual_tokens", "kept")}
        assert shapes == {"visual_tokens": [(1, count, 48)] * 3, "kept": [(1, count)] * 3}
    assert [profile.extra_memory_target for profile in added] == [1, 0, 0]
    with pytest.raises(VljEdgeError, match=r"predictor\.onnx for 8 tokens"):
        networks.add_profiles(network, Config(), spec, (8,))


@pytest.mark.slow
@pytest.mark.parametrize("flavour", ["native", "portable"])
def test_nano_has_fused_attention_in_every_profile_and_its_weights_once(
    tmp_path: Path, trt: TensorRtPackage, flavour: str
) -> None:
    out = tmp_path / "nano"
    export = (
        "export",
        "--fp16",
        "--token-shares",
        "25,37,50,75",
        "--flavour",
        flavour,
        "--skip-parity",
        "--no-decoder",
    )
    done = run_here(*export, "--out", out)
    assert done.returncode == 0, done.stderr
    manifest = read_manifest(out)
    assert manifest.tokens is not None and len(manifest.tokens.counts) == 5
    built = build_engines(out, manifest, trt, ahead(trt), names=VISION)
    for engine, layers in zip(built, (4, 3), strict=True):
        assert (engine.attention, engine.decomposed) == (layers if flavour == "native" else 0, 0)
        assert tuple(engine.tokens) == manifest.tokens.counts
        plan = plan_of(out, manifest, engine.name, trt)
        graph = onnx.load(out / manifest.engines[engine.name].file).graph
        weights = [onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer]
        products = [weight for weight in weights if weight.dtype == np.float16 and weight.ndim == 2]
        assert len(products) > 10
        for weight in sorted(products, key=lambda weight: -weight.nbytes)[:10]:
            middle = weight.size // 2
            assert plan.count(weight.ravel()[middle : middle + 16].tobytes()) == 1
