from __future__ import annotations

import importlib.util
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.runtime import tiny_bundle as by_hand
from vlj_edge import VljEdgeError, bundle, memory
from vlj_edge.runtime.engines import base as engines
from vlj_edge.runtime.engines.base import open_engine
from vlj_edge.runtime.engines.onnxruntime import OrtEngine


@pytest.fixture
def own_bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


@pytest.fixture
def never_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails the test if a file reaches onnxruntime."""
    import onnxruntime

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("loaded before it was verified")

    monkeypatch.setattr(onnxruntime, "InferenceSession", refuse)


def test_an_engine_that_would_not_fit_into_memory_is_not_loaded(
    tiny_bundle: Path, never_loads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available", lambda: 100)
    with pytest.raises(VljEdgeError, match=r"predictor .*GB.*int4w"):
        open_engine(tiny_bundle, bundle.read_manifest(tiny_bundle), "predictor")


@pytest.mark.parametrize("element", [TensorProto.FLOAT, TensorProto.FLOAT16])
def test_cache_is_updated_in_the_buffer_that_was_bound(tmp_path: Path, element: int) -> None:
    shape, row = [1, 2, 8, 4], [1, 2, 1, 4]
    dtype = helper.tensor_dtype_to_np_dtype(element)
    graph = helper.make_graph(
        [
            helper.make_node("Shape", ["row"], ["row_shape"]),
            helper.make_node("Expand", ["position", "row_shape"], ["index"]),
            helper.make_node("ScatterElements", ["cache", "index", "row"], ["cache_out"], axis=2),
            helper.make_node("ReduceSum", ["cache_out"], ["sum"], keepdims=0),
        ],
        "scatter",
        [
            helper.make_tensor_value_info("cache", element, shape),
            helper.make_tensor_value_info("row", element, row),
            helper.make_tensor_value_info("position", TensorProto.INT64, [1]),
        ],
        [
            helper.make_tensor_value_info("cache_out", element, shape),
            helper.make_tensor_value_info("sum", element, []),
        ],
    )
    path = tmp_path / "scatter.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10), path)
    spec = bundle.EngineSpec(
        file=path.name,
        precision="fp32",
        opset=23,
        inputs=(
            bundle.TensorSpec("cache", dtype.name, tuple(shape)),
            bundle.TensorSpec("row", dtype.name, tuple(row)),
            bundle.TensorSpec("position", "int64", (1,)),
        ),
        outputs=(bundle.TensorSpec("cache_out", dtype.name, tuple(shape)), bundle.TensorSpec("sum", dtype.name, ())),
        in_place={"cache_out": "cache"},
    )
    engine = OrtEngine(path, spec, {}, threads=1)
    cache = engine.inputs["cache"]
    assert engine.outputs["cache_out"] is cache
    address = cache.ctypes.data
    expected = np.zeros(shape, dtype)
    rng = np.random.default_rng(0)
    for position in (0, 5, 7, 5):  # 5 twice: a position can be written over
        new = rng.integers(-3, 4, row).astype(dtype)
        engine.inputs["row"][...] = new
        engine.inputs["position"][0] = position
        engine.run()
        expected[:, :, position : position + 1] = new
        np.testing.assert_array_equal(cache, expected)
        assert engine.outputs["sum"] == expected.sum()
    assert cache.ctypes.data == address


def test_predictor_reads_the_encoders_own_output(tiny_bundle: Path) -> None:
    manifest = bundle.read_manifest(tiny_bundle)
    encoder = open_engine(tiny_bundle, manifest, "vision_encoder")
    tokens = encoder.outputs["visual_tokens"]
    predictor = open_engine(tiny_bundle, manifest, "predictor", inputs_from={"visual_tokens": encoder})
    assert predictor.inputs["visual_tokens"] is tokens
    encoder.inputs["pixels"][:, :, 0] = 1  # red
    encoder.run()
    predictor.run()
    np.testing.assert_allclose(predictor.outputs["embedding"], [[1, 0, 0, 0]], atol=1e-6)


def test_shared_buffer_of_another_shape_is_refused(tiny_bundle: Path) -> None:
    manifest = bundle.read_manifest(tiny_bundle)
    other = SimpleNamespace(outputs={"visual_tokens": np.zeros((1, 8, 3), np.float32)})
    with pytest.raises(VljEdgeError, match=r"visual_tokens is float32\[1, 4, 3\].*float32\[1, 8, 3\]"):
        open_engine(tiny_bundle, manifest, "predictor", inputs_from={"visual_tokens": other})


@pytest.mark.usefixtures("never_loads")
def test_changed_byte_is_refused_before_loading(own_bundle: Path) -> None:
    path = own_bundle / "decoder.onnx"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(VljEdgeError, match=r"decoder\.onnx "):
        open_engine(own_bundle, bundle.read_manifest(own_bundle), "decoder")


@pytest.mark.usefixtures("never_loads")
def test_changed_external_weights_are_refused_before_loading(own_bundle: Path) -> None:
    weights = own_bundle / "decoder.onnx.data"
    weights.write_bytes(b"weights")
    manifest = bundle.read_manifest(own_bundle)
    sealed = replace(manifest, files=manifest.files | {weights.name: bundle.seal(weights)})
    weights.write_bytes(b"wEights")
    with pytest.raises(VljEdgeError, match=r"decoder\.onnx\.data"):
        open_engine(own_bundle, sealed, "decoder")
    with pytest.raises(VljEdgeError, match=r"decoder\.onnx\.data"):
        open_engine(own_bundle, manifest, "decoder")


def test_external_weights_are_read(own_bundle: Path) -> None:
    model = onnx.load(own_bundle / "text_encoder.onnx")
    onnx.save(
        model,
        own_bundle / "text_encoder.onnx",
        save_as_external_data=True,
        location="text_encoder.onnx.data",
        size_threshold=100,  # the table of words
    )
    manifest = bundle.read_manifest(own_bundle)
    names = ("text_encoder.onnx", "text_encoder.onnx.data")
    manifest = replace(manifest, files=manifest.files | {name: bundle.seal(own_bundle / name) for name in names})
    engine = open_engine(own_bundle, manifest, "text_encoder")
    engine.inputs["text_ids"][0, 0] = by_hand.WORDS.index("red")
    engine.inputs["text_mask"][0, 0] = True
    engine.run()
    assert engine.outputs["embedding"].argmax() == 0


def test_manifest_that_differs_from_the_file_is_refused(tiny_bundle: Path) -> None:
    manifest = bundle.read_manifest(tiny_bundle)
    spec = manifest.engines["text_encoder"]
    other = replace(spec, outputs=(bundle.TensorSpec("embedding", "float32", (1, 5)),))
    with pytest.raises(VljEdgeError, match=r"embedding .*float32\[1, 5\].*float32\[1, 4\]"):
        open_engine(tiny_bundle, replace(manifest, engines=manifest.engines | {"text_encoder": other}), "text_encoder")


def test_file_that_onnxruntime_cannot_read_is_one_line(own_bundle: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = own_bundle / "decoder.onnx"
    path.write_bytes(b"not a graph")
    manifest = bundle.read_manifest(own_bundle)
    manifest = replace(manifest, files=manifest.files | {path.name: bundle.seal(path)})
    with pytest.raises(VljEdgeError, match="onnxruntime") as caught:
        open_engine(own_bundle, manifest, "decoder")
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_failure_in_a_run_is_one_line(tiny_bundle: Path, capfd: pytest.CaptureFixture[str]) -> None:
    engine = open_engine(tiny_bundle, bundle.read_manifest(tiny_bundle), "text_encoder")
    engine.inputs["text_ids"][...] = 10**6  # outside the table
    with pytest.raises(VljEdgeError, match="failed while running") as caught:
        engine.run()
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_unknown_backend_lists_those_that_exist(tiny_bundle: Path) -> None:
    with pytest.raises(VljEdgeError, match=r"abacus.*onnxruntime"):
        open_engine(tiny_bundle, bundle.read_manifest(tiny_bundle), "decoder", backend="abacus")


def test_backend_that_is_not_installed_names_the_extra(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(VljEdgeError, match=r"pip install 'vlj-edge\[cpu\]'"):
        open_engine(tiny_bundle, bundle.read_manifest(tiny_bundle), "decoder")


def test_every_backend_in_the_registry_exists() -> None:
    for name in (*engines.BACKENDS, *engines.WITH_SETTINGS):
        backend, _ = engines.backend_and_settings(name)
        module = importlib.util.resolve_name(engines.BACKENDS[backend], engines.__package__)
        assert importlib.util.find_spec(module) is not None
