"""A bundle of the fused flavour: its manifest, who refuses it, and what an engine built from it depends on."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import vlj_edge
from vlj_edge.bundle import read_manifest, verify_bundle
from vlj_edge.bundle.engine_cache import RuntimeId
from vlj_edge.cuda import cubins
from vlj_edge.errors import VljEdgeError
from vlj_edge.export.bundle import Exported, export_bundle
from vlj_edge.export.request import ExportRequest
from vlj_edge.export.tensorrt import build as building
from vlj_edge.export.tensorrt.build import build_engines
from vlj_edge.export.weights.locations import WeightSources, shipped_weights
from vlj_edge.presets import preset
from vlj_edge.tensorrt_package import TensorRtPackage, import_tensorrt

DEMO = Path(__file__).parents[2] / "examples" / "media" / "demo.mp4"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """nano's own weights: its heads have 32 values."""
    out = tmp_path_factory.mktemp("fused") / "bundle"
    return export_bundle(
        ExportRequest(WeightSources(shipped_weights()), preset("nano"), out, precision="fp16", flavour="fused")
    )


def test_a_fused_bundle_says_what_was_measured(bundle: Exported) -> None:
    manifest = verify_bundle(bundle.bundle)
    assert {name: spec.plugins for name, spec in manifest.engines.items() if spec.plugins} == {
        "vision_encoder": ("AttentionByAxes",),
        "predictor": ("AttentionByHalves",),
    }
    assert manifest.parity["on_native_graphs"] == ["vision_encoder", "predictor"] == list(bundle.compared_as_native)
    assert [row["engine"] for row in manifest.parity["rows"]].count("chain") == 1
    assert not list(bundle.bundle.parent.glob("tmp*")), "the native graphs are removed"
    shown = vlj_edge("inspect", bundle.bundle).stdout
    assert re.search(r"predictor: .*TensorRT.*AttentionByHalves.*native", shown)


def test_what_is_not_tensorrt_refuses_it_in_one_line(bundle: Exported) -> None:
    said = vlj_edge("narrate", DEMO, "--bundle", bundle.bundle, "--backend", "onnxruntime")
    assert said.returncode == 1 and said.stdout == ""
    assert re.fullmatch(r".*encoder\.onnx.*--flavour native.*\n", said.stderr)


def test_verify_reads_it_and_compares_nothing_with_it(bundle: Exported) -> None:
    assert vlj_edge("verify", bundle.bundle).returncode == 0
    said = vlj_edge("verify", bundle.bundle, "--backend", "onnxruntime", "--source", DEMO)
    assert said.returncode == 1 and "--flavour native" in said.stderr and said.stderr.count("\n") == 1


def test_tensorrt_rtx_says_native(bundle: Exported) -> None:
    pytest.importorskip("tensorrt_rtx")
    trt, manifest = import_tensorrt("tensorrt_rtx"), read_manifest(bundle.bundle)
    ahead = RuntimeId(trt.package, trt.version, "sm89", None)
    with pytest.raises(VljEdgeError, match=r"tensorrt_rtx .*--flavour native"):
        build_engines(bundle.bundle, manifest, trt, ahead, names=["vision_encoder"])
    assert build_engines(bundle.bundle, manifest, trt, ahead, names=["decoder"])[0].ours == 0


def test_another_kernel_is_another_engine(bundle: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an engine's receipt must agree with, by engine: the kernels' archive counts where they are in it."""
    asked: dict[str, dict[str, Any]] = {}

    def current(directory: Any, manifest: Any, name: str, runtime: Any, options: dict[str, Any]) -> bool:
        asked[name] = options
        return True

    report = {"megabytes": 1.0, "seconds": 1.0, "layers": 1, "attention": 0, "decomposed": 0, "unfolded": 0}
    monkeypatch.setattr(building, "is_up_to_date", current)
    monkeypatch.setattr(building, "read_report", lambda *_: report)
    here = RuntimeId("tensorrt", "11.4", "sm110", "Thor")
    build_engines(bundle.bundle, read_manifest(bundle.bundle), TensorRtPackage(object(), "tensorrt", "11.4"), here)
    sealed = {name: options.get("kernels") for name, options in asked.items()}
    archive = cubins.seal()["sha256"]
    assert sealed == {"vision_encoder": archive, "predictor": archive, "decoder": None, "text_encoder": None}
