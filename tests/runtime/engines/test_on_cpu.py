"""An engine that only a card runs may have another form, which CPU backends take in its place."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.cli.command import error_of, run_here
from vlj_edge.bundle import read_manifest, seal, verify_bundle
from vlj_edge.bundle.engine_cache import engine_sources
from vlj_edge.errors import VljEdgeError
from vlj_edge.runtime.engines.base import open_engine


@pytest.fixture
def for_card(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A bundle whose text encoder is for a card, so no CPU reads it, and has a form for CPUs."""
    directory = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    shutil.copyfile(directory / "text_encoder.onnx", directory / "text_encoder_cpu.onnx")

    def change(raw: dict[str, Any]) -> None:
        spec = raw["engines"]["text_encoder"]
        raw["on_cpu"] = {"text_encoder": spec | {"file": "text_encoder_cpu.onnx"}}
        raw["engines"]["text_encoder"] = spec | {"precision": "bf16"}
        raw["files"]["text_encoder_cpu.onnx"] = vars(seal(directory / "text_encoder_cpu.onnx"))

    edit(directory, change)
    return directory


def edit(directory: Path, change: Callable[[dict[str, Any]], object]) -> None:
    raw = json.loads((directory / "manifest.json").read_text())
    change(raw)
    (directory / "manifest.json").write_text(json.dumps(raw))


def test_labels_are_embedded_as_without_a_card(for_card: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    found = []
    for number, bundle in enumerate((for_card, tiny_bundle)):
        out = tmp_path / f"{number}.npz"
        done = run_here("labels", "a red screen,a blue screen", "--bundle", bundle, "--out", out)
        assert (done.returncode, done.stderr) == (0, "")
        found.append(np.load(out)["embeddings"])
    np.testing.assert_array_equal(*found)


def test_both_forms_are_sealed_and_only_one_is_built(for_card: Path) -> None:
    manifest = verify_bundle(for_card)
    assert set(engine_sources(manifest, "text_encoder")) == {"text_encoder.onnx"}
    assert set(engine_sources(manifest.for_cpu(), "text_encoder")) == {"text_encoder_cpu.onnx"}
    assert "text_encoder on a CPU" in run_here("inspect", for_card).stdout
    (for_card / "text_encoder_cpu.onnx").write_bytes(b"another")
    assert "text_encoder_cpu.onnx" in error_of(run_here("verify", for_card))


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("name", ["vision_encoder", "predictor", "decoder", "text_encoder"])
def test_bf16_without_such_a_form_is_said(tiny_bundle: Path, tmp_path: Path, name: str, backend: str) -> None:
    pytest.importorskip(backend)
    bundle = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    edit(bundle, lambda raw: raw["engines"][name].update(precision="bf16"))
    with pytest.raises(VljEdgeError, match=rf"{name} .*bf16.*--precision fp32") as error:
        open_engine(bundle, read_manifest(bundle), name, backend=backend)
    assert "pip install" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda raw: raw["on_cpu"].update(other=raw["on_cpu"]["text_encoder"]), "on_cpu.other"),
        (lambda raw: raw["on_cpu"]["text_encoder"].update(file="nowhere.onnx"), "nowhere.onnx"),
        (lambda raw: raw["on_cpu"]["text_encoder"].update(file="../x.onnx"), "../x.onnx"),
        (lambda raw: raw["on_cpu"]["text_encoder"].update(inputs=[]), "text_ids"),
    ],
)
def test_a_form_that_is_none_is_refused(for_card: Path, change: Callable[[dict[str, Any]], object], words: str) -> None:
    edit(for_card, change)
    with pytest.raises(VljEdgeError, match=words):
        read_manifest(for_card)
