"""The exported bundle: readable graphs, actual precision, parity, and atomic writes."""

from __future__ import annotations

import collections
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch

from tests.export.tiny_weights import TINY
from vlj_edge.bundle import ENGINE_NAMES, EngineSpec, read_manifest, verify_bundle
from vlj_edge.errors import VljEdgeError
from vlj_edge.export import bundle as export_bundle_module
from vlj_edge.export import parity
from vlj_edge.export.bundle import Exported, export_bundle
from vlj_edge.export.engines import export_engine
from vlj_edge.export.models import VLJepa
from vlj_edge.export.models.vl_jepa import visual_tokens
from vlj_edge.export.onnx import precision, quantize
from vlj_edge.export.parity_cases import ParityCases
from vlj_edge.export.precisions import PRECISIONS
from vlj_edge.export.request import ExportRequest
from vlj_edge.export.weights.locations import WeightSources
from vlj_edge.export.weights.sources import open_weights
from vlj_edge.presets import preset

Exports = Callable[[str], Exported]


@pytest.fixture(params=["fp32", "fp16"])
def each(request: pytest.FixtureRequest, exported: Exports) -> Exported:
    return exported(request.param)


def graph(bundle: Path, engine: str) -> onnx.GraphProto:
    model = onnx.load(bundle / f"{engine}.onnx")
    onnx.checker.check_model(model, full_check=True)
    return model.graph


def operators(bundle: Path, engine: str) -> collections.Counter[str]:
    return collections.Counter(node.op_type for node in graph(bundle, engine).node)


def test_attention_is_one_node_a_layer(each: Exported) -> None:
    layers = (TINY.vision.layers, TINY.predictor.layers, TINY.decoder.layers, 2)
    for engine, count in zip(ENGINE_NAMES, layers, strict=True):
        found = operators(each.bundle, engine)
        assert found["Attention"] == count
        assert not found["Softmax"], "attention was spelled out"


def test_rope_costs_no_trigonometry_at_run_time(each: Exported) -> None:
    for engine in ENGINE_NAMES:
        assert not {"Sin", "Cos", "Tile"} & set(operators(each.bundle, engine))


def test_a_layer_has_at_most_40_nodes(each: Exported) -> None:
    assert sorted(engine.name for engine in each.engines) == sorted(ENGINE_NAMES)
    for engine in each.engines:
        assert 8 < engine.nodes_a_layer <= 40
        graph_nodes = len(graph(each.bundle, engine.name).node)
        assert graph_nodes <= 3 * engine.nodes_a_layer + 40, "nodes were counted in the wrong place"


def test_nodes_and_weights_are_named_after_their_modules(each: Exported) -> None:
    encoder = graph(each.bundle, "vision_encoder")
    assert "blocks.1.attention/Attention" in {node.name for node in encoder.node}
    assert "blocks.0.attention.proj/MatMul.weight" in {weight.name for weight in encoder.initializer}
    decoder = {node.name for node in graph(each.bundle, "decoder").node}
    assert "decoder.layers.2.self_attn/ScatterElements_2" in decoder


def test_no_path_of_the_exporting_machine_is_in_the_graphs(each: Exported) -> None:
    here = str(Path(export_bundle_module.__file__).parent).encode()
    for file in each.bundle.iterdir():
        assert here not in file.read_bytes(), file.name
        assert b"stack_trace" not in file.read_bytes(), file.name


def test_shapes_are_fixed_and_as_the_manifest_says(each: Exported) -> None:
    manifest = verify_bundle(each.bundle)
    for engine in ENGINE_NAMES:
        spec, found = manifest.engines[engine], graph(each.bundle, engine)
        for tensors, values in ((spec.inputs, found.input), (spec.outputs, found.output)):
            assert [t.name for t in tensors] == [v.name for v in values]
            for tensor, value in zip(tensors, values, strict=True):
                assert tensor.shape == tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
                onnx_type = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
                assert tensor.dtype == np.dtype(onnx_type).name


def test_every_cache_output_names_the_input_it_is_bound_to(each: Exported) -> None:
    spec = read_manifest(each.bundle).engines["decoder"]
    outputs = {tensor.name: tensor for tensor in spec.outputs}
    inputs = {tensor.name: tensor for tensor in spec.inputs}
    assert len(spec.in_place) == 2 * TINY.decoder.layers
    for output, bound in spec.in_place.items():
        assert outputs[output].shape == inputs[bound].shape and outputs[output].dtype == inputs[bound].dtype


def test_parity_covers_every_engine_and_the_chain(each: Exported) -> None:
    assert [row.engine for row in each.parity] == ["vision_encoder", "predictor", "chain", "text_encoder", "decoder"]
    for row in each.parity:
        assert parity.LOWEST_COSINE[row.precision] <= row.cosine <= 1 + 1e-9
    assert read_manifest(each.bundle).parity["rows"][0]["engine"] == "vision_encoder"


def test_what_fails_on_synthetic_pictures_says_what_to_add() -> None:
    def row(engine: str) -> parity.ParityRow:
        return parity.ParityRow(engine, "bf16", 4, 0.9, None, 0.1)

    bf16 = dict.fromkeys(ENGINE_NAMES, "bf16")
    for engine in ("vision_encoder", "predictor", "chain"):
        with pytest.raises(VljEdgeError, match=f"^{engine} .*--calibrate-on"):
            parity.require_parity([row(engine)], bf16, synthetic=True)
    for engine, synthetic in (("chain", False), ("text_encoder", True)):
        with pytest.raises(VljEdgeError) as error:
            parity.require_parity([row(engine)], bf16, synthetic=synthetic)
        assert "--calibrate-on" not in str(error.value), "it would change nothing"


def test_fp16_is_fp16(exported: Exports) -> None:
    for engine in ENGINE_NAMES:
        weights = graph(exported("fp16").bundle, engine).initializer
        large = [w for w in weights if len(w.dims) >= 2 and w.name.endswith("weight")]
        assert large
        assert {w.data_type for w in large} == {onnx.TensorProto.FLOAT16}, engine
    assert {engine.precision for engine in exported("fp16").engines} == {"fp16"}
    assert all(engine.kept_fp32 for engine in exported("fp16").engines), "what stays in fp32 is said"


def test_a_graph_that_stayed_in_fp32_is_refused_as_fp16(tiny_weights: Path) -> None:
    module = open_weights(WeightSources(tiny_weights), TINY).loaders["vision_encoder"]()
    graph = export_engine("vision_encoder", module, TINY, "fp32")
    with pytest.raises(VljEdgeError, match=r"vision_encoder: .*FLOAT.*fp16.*--precision"):
        precision.check_compute(graph.model, "vision_encoder", PRECISIONS["fp16"])


def test_int8_storage_rounds_to_half_a_step() -> None:
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(96, 80)).astype(np.float32) * rng.uniform(0.01, 10, 80).astype(np.float32)
    x = ir.Value(name="x", shape=ir.Shape([4, 96]), type=ir.TensorType(ir.DataType.FLOAT))
    stored = ir.Value(name="w", const_value=ir.tensor(weight, name="w"))
    node = ir.node("MatMul", [x, stored], name="m")
    product = node.outputs[0]
    product.name, product.type, product.shape = "y", ir.TensorType(ir.DataType.FLOAT), ir.Shape([4, 80])
    model = ir.Model(
        ir.Graph([x], [product], nodes=[node], initializers=[stored], opset_imports={"": 23}, name="one"),
        ir_version=10,
    )
    quantize.quantize(model, PRECISIONS["int8w"])
    weights = {w.name: w.const_value.numpy() for w in model.graph.initializers.values() if w.const_value is not None}
    assert weights["w_int8"].dtype == np.int8 and "w" not in weights
    scale = weights["w_scale"].repeat(quantize.BLOCK, axis=0)
    assert scale.shape == weight.shape
    assert (np.abs(weights["w_int8"] * scale - weight) <= scale / 2 * 1.0001).all()
    onnx.checker.check_model(ir.to_proto(model), full_check=True)


def test_the_text_encoder_of_a_small_bundle_is_stored_as_int8(exported: Exports) -> None:
    manifest = read_manifest(exported("fp32").bundle)
    assert manifest.engines["text_encoder"].precision == "int8w"
    types = {w.data_type for w in graph(exported("fp32").bundle, "text_encoder").initializer if len(w.dims) == 2}
    assert onnx.TensorProto.INT8 in types


def test_an_engine_below_its_bar_leaves_no_bundle(
    tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(name: str, directory: Path, spec: EngineSpec, cases: ParityCases) -> list[parity.ParityRow]:
        if name == "predictor":
            model = onnx.load(directory / "predictor.onnx")
            for initializer in model.graph.initializer:
                if initializer.name.endswith("out_proj.weight"):
                    values = onnx.numpy_helper.to_array(initializer)[::-1]
                    initializer.CopyFrom(onnx.numpy_helper.from_array(values.copy(), initializer.name))
            onnx.save(model, directory / "predictor.onnx")
        return compared(name, directory, spec, cases)

    compared = parity.compare_with_torch
    monkeypatch.setattr(parity, "compare_with_torch", wrong)
    with pytest.raises(VljEdgeError, match=r"predictor.*cosine -?0\.\d+"):
        export_bundle(ExportRequest(WeightSources(tiny_weights), TINY, tmp_path / "bundle"))
    assert list(tmp_path.iterdir()) == []


def test_what_lies_at_out_is_kept(tiny_weights: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    for overwrite in (False, True):
        with pytest.raises(VljEdgeError, match=r"mine .*--out"):
            export_bundle(ExportRequest(WeightSources(tiny_weights), TINY, tmp_path / "mine", overwrite=overwrite))
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"


@pytest.mark.slow
def test_the_same_weights_give_the_same_graphs(tiny_weights: Path, exported: Exports, tmp_path: Path) -> None:
    again = export_bundle(ExportRequest(WeightSources(tiny_weights), TINY, tmp_path / "again"))
    first, second = (read_manifest(e.bundle).files for e in (exported("fp32"), again))
    assert first == second


def test_weights_that_do_not_fit_are_listed(tiny_weights: Path) -> None:
    with pytest.raises(VljEdgeError) as error:
        open_weights(WeightSources(tiny_weights), preset("nano"))
    message = str(error.value)
    assert "\n" not in message
    assert "missing: " in message and "unexpected: " not in message and "wrong shape: " in message
    assert " more" in message and "preset nano" in message


@pytest.mark.parametrize("name", ["nano", "vl-jepa-1.6b", "vl-jepa-base"])
def test_every_preset_makes_a_model(name: str) -> None:
    chosen = preset(name)
    with torch.device("meta"):
        model = VLJepa(chosen)
    parameters = {part: sum(p.numel() for p in module.parameters()) for part, module in model.named_children()}
    if name == "vl-jepa-1.6b":
        assert parameters["vision_encoder"] == 303_885_312  # the published encoder
        assert visual_tokens(chosen) == 2048
        assert sum(p.numel() for p in model.predictor.layers[0].parameters()) == 60_821_504
    elif name == "vl-jepa-base":
        # Meta's file holds, besides, the other modality's patch embedding, two modality vectors and three more norms.
        unused = 768 * (3 * 16 * 16 + 1) + 2 * 768 + 3 * 2 * 768
        assert round((parameters["vision_encoder"] + unused) / 1e6, 1) == 86.8
    else:
        assert sum(parameters.values()) < 8_000_000
