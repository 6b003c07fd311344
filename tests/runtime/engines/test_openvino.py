"""OpenVINO compared with ONNX Runtime: same embeddings and texts, no copies, and no unrequested precision."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.cli.command import error_of, vlj_edge
from tests.needs import needs
from tests.runtime.tiny_bundle import BLUE, GREEN, RED
from vlj_edge.bundle import Manifest, TensorSpec, nano_bundle, read_manifest
from vlj_edge.errors import VljEdgeError
from vlj_edge.runtime.engines import openvino as adapter
from vlj_edge.runtime.engines.base import open_engine
from vlj_edge.runtime.engines.onnxruntime import OrtEngine
from vlj_edge.runtime.model import Model
from vlj_edge.runtime.video.uri import open_source

DEMO = Path(__file__).parents[3] / "examples" / "media" / "demo.mp4"


@pytest.fixture
def nano() -> tuple[Path, Manifest]:
    return nano_bundle(), read_manifest(nano_bundle())


def test_nano_says_and_embeds_what_it_does_with_onnx_runtime() -> None:
    ours, theirs = (Model(nano_bundle(), backend=name) for name in ("openvino", "onnxruntime"))
    for mine, said in zip(*(model.narrate(open_source(DEMO, end=30.0)) for model in (ours, theirs)), strict=True):
        assert mine == dataclasses.replace(said, similarity=mine.similarity)
    for a, b in zip(*(model.embed(open_source(DEMO, end=12.0)) for model in (ours, theirs)), strict=True):
        assert float(a.embedding @ b.embedding) > 0.999999
    assert float(ours.embed_text("the robot arm") @ theirs.embed_text("the robot arm")) > 0.9999


def test_a_small_bundle_through_every_gate(tiny_bundle: Path, make_video: Callable[..., Path]) -> None:
    video = make_video([(RED, 4), (BLUE, 4), (GREEN, 4), (RED, 3)])
    ours, theirs = (Model(tiny_bundle, backend=name) for name in ("openvino", "onnxruntime"))
    for every_window in (True, False):
        said = [
            [(n.start, n.text, n.origin) for n in model.narrate(video, every_window=every_window)]
            for model in (ours, theirs)
        ]
        assert said[0] == said[1]


def test_engines_read_each_others_memory_and_the_hosts(nano: tuple[Path, Manifest]) -> None:
    directory, manifest = nano
    encoder = open_engine(directory, manifest, "vision_encoder", backend="openvino")
    predictor = open_engine(
        directory, manifest, "predictor", backend="openvino", inputs_from={"visual_tokens": encoder}
    )
    assert predictor.inputs["visual_tokens"] is encoder.outputs["visual_tokens"]
    addresses = [array.ctypes.data for array in (*encoder.inputs.values(), *predictor.outputs.values())]
    rng = np.random.default_rng(0)
    seen = []
    for _ in range(2):
        encoder.inputs["pixels"][...] = rng.standard_normal(encoder.inputs["pixels"].shape)
        encoder.outputs["visual_tokens"][...] = np.nan
        encoder.run()
        assert np.isfinite(encoder.outputs["visual_tokens"]).all()
        predictor.inputs["query_mask"][...] = True
        predictor.run()
        seen.append(predictor.outputs["embedding"].copy())
    assert not np.array_equal(*seen)
    assert addresses == [array.ctypes.data for array in (*encoder.inputs.values(), *predictor.outputs.values())]


def test_what_has_a_cache_is_onnx_runtimes(nano: tuple[Path, Manifest]) -> None:
    directory, manifest = nano
    assert isinstance(open_engine(directory, manifest, "decoder", backend="openvino"), OrtEngine)
    assert "a text decoder by ONNX Runtime" in Model(directory, backend="openvino").backend.description


def test_a_precision_that_it_would_not_keep_is_refused(nano: tuple[Path, Manifest]) -> None:
    directory, manifest = nano
    half = dataclasses.replace(manifest.engines["predictor"], precision="fp16")
    other = dataclasses.replace(manifest, engines={**manifest.engines, "predictor": half})
    with pytest.raises(VljEdgeError, match=r"fp32.*fp16"):
        open_engine(directory, other, "predictor", backend="openvino")


def test_bf16_is_only_for_processors_that_have_it(nano: tuple[Path, Manifest]) -> None:
    directory, manifest = nano
    if adapter.has_bf16():
        engine = open_engine(directory, manifest, "predictor", backend="openvino", bf16=True)
        engine.inputs["query_mask"][...] = True
        engine.run()
        assert np.isfinite(engine.outputs["embedding"]).all()
    else:
        with pytest.raises(VljEdgeError, match="bf16"):
            open_engine(directory, manifest, "predictor", backend="openvino", bf16=True)


def test_other_inputs_than_the_manifests_are_refused(nano: tuple[Path, Manifest]) -> None:
    directory, manifest = nano
    spec = manifest.engines["predictor"]
    wrong = dataclasses.replace(spec, inputs=(*spec.inputs[:-1], TensorSpec("query_mask", "bool", (1, 7))))
    other = dataclasses.replace(manifest, engines={**manifest.engines, "predictor": wrong})
    with pytest.raises(VljEdgeError, match=r"query_mask .*bool\[1, 7\].*bool\[1, "):
        open_engine(directory, other, "predictor", backend="openvino")


def test_a_file_that_it_cannot_read_is_one_line(tmp_path: Path, nano: tuple[Path, Manifest], monkeypatch: Any) -> None:
    directory, manifest = nano
    broken = tmp_path / "predictor.onnx"
    broken.write_bytes(b"\x08\x07nothing")
    monkeypatch.setattr(adapter, "verified_graph", lambda wanted: broken)
    with pytest.raises(VljEdgeError, match=r"OpenVINO 20.*--backend onnxruntime") as error:
        open_engine(directory, manifest, "predictor", backend="openvino")
    assert "\n" not in str(error.value)


@needs("openvino")
def test_the_commands(tmp_path: Path) -> None:
    done = vlj_edge("narrate", DEMO, "--backend", "openvino")
    assert done.returncode == 0 and "the robot arm opens the drawer" in done.stdout
    own = shutil.copytree(nano_bundle(), tmp_path / "bundle", ignore=shutil.ignore_patterns("engines"))
    (own / "predictor.onnx").write_bytes(b"x")
    assert "predictor.onnx" in error_of(vlj_edge("narrate", DEMO, "--bundle", own, "--backend", "openvino"))
