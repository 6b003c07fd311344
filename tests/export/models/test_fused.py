"""The fused flavour: graphs with this project's attention as one node, evaluated with the kernel's own source.

ONNX's reference evaluator runs every other node; ours is run by an emulated thread block on the CPU
(tests/export/kernels/host.py). Both are compared with torch in fp32, and with the native graph of the same weights in
ONNX Runtime.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from tests.export.kernels import host
from tests.export.tiny_weights import TINY
from vlj_edge.errors import VljEdgeError
from vlj_edge.export.engines import EngineGraph, export_engine
from vlj_edge.export.models import VLJepa, fused
from vlj_edge.export.models.vl_jepa import visual_tokens
from vlj_edge.export.onnx import plugins
from vlj_edge.export.onnx.precision import record_input_ranges
from vlj_edge.export.parity_cases import probe_clip
from vlj_edge.presets import Preset


def sized(head_dim: int, squeezed: bool = False, heads: int = 3, query_tokens: int = 13) -> Preset:
    """A small preset with heads of this size, and with a sequence length that is no multiple of a tile or of 4."""
    llama = replace(TINY.predictor, width=96, heads=4, kv_heads=2, head_dim=head_dim)
    vision = replace(TINY.vision, width=heads * head_dim, heads=heads, squeezed_positions=squeezed)
    return replace(TINY, vision=vision, predictor=llama, query_tokens=query_tokens)


def model(preset: Preset) -> VLJepa:
    torch.manual_seed(0)
    made = VLJepa(preset).eval()
    for name, parameter in made.named_parameters():  # as large as trained ones, so that attention is not almost uniform
        if any(part in name for part in ("qkv.weight", "q_proj", "k_proj")):
            parameter.data.mul_(3)
    return made


def exported(made: VLJepa, preset: Preset, name: str, precision: str, flavour: str, **more: Any) -> EngineGraph:
    return export_engine(name, copy.deepcopy(getattr(made, name)), preset, precision, flavour=flavour, **more)


def attend(plugin: plugins.Plugin, qkv: Any, rotary: Any, key_mask: Any, heads: list[int], picture: Any) -> tuple[Any]:
    """Run the node with the kernel's own source, from nothing but what a TensorRT plugin gets."""
    dtype = {"float16": "float16", "bfloat16": "bfloat16"}[qkv.dtype.name]
    launch = plugins.launch(plugin, dtype, qkv.shape, heads, picture)
    out = np.full((*qkv.shape[:2], launch.output_bytes[0] // 2 // qkv.shape[1]), 0x7FFF, np.uint16)  # NaNs
    inputs = [np.ascontiguousarray(x) for x in (qkv, rotary, key_mask) if x is not None]
    assert rotary.dtype == np.float32 and rotary.nbytes == launch.input_bytes[1]
    assert key_mask is None or (key_mask.dtype == np.int32 and 0 <= key_mask.nbytes - launch.input_bytes[2] < 4)
    inputs[0] = inputs[0].view(np.uint16)
    host.start(launch.name, launch.grid, launch.threads, [*inputs, *launch.integers, out])
    return (out.view(qkv.dtype),)


class AttentionByAxes(OpRun):
    op_domain = plugins.DOMAIN

    def _run(self, qkv: Any, rotary: Any, heads: Any = None, picture: Any = None, **_: Any) -> tuple[Any]:
        return attend(plugins.AXES, qkv, rotary, None, heads, picture)


class AttentionByHalves(OpRun):
    op_domain = plugins.DOMAIN

    def _run(self, qkv: Any, rotary: Any, key_mask: Any, heads: Any = None, **_: Any) -> tuple[Any]:
        return attend(plugins.HALVES, qkv, rotary, key_mask, heads, None)


def evaluate(graph: EngineGraph, *inputs: np.ndarray) -> np.ndarray:
    proto = ir.to_proto(graph.model)
    evaluator = ReferenceEvaluator(proto, new_ops=[AttentionByAxes, AttentionByHalves])
    feed = {spec.name: x for spec, x in zip(graph.spec.inputs, inputs, strict=True)}
    found: Any = evaluator.run(None, feed)
    return np.asarray(found[0]).astype(np.float64)


def in_onnx_runtime(graph: EngineGraph, *inputs: np.ndarray) -> np.ndarray:
    options = ort.SessionOptions()
    options.add_session_config_entry("optimization.disable_specified_optimizers", "MatMulAddFusion")  # as ort/engine.py
    serialised = ir.to_proto(graph.model).SerializeToString()
    session = ort.InferenceSession(serialised, options, providers=["CPUExecutionProvider"])
    found: Any = session.run(None, {spec.name: x for spec, x in zip(graph.spec.inputs, inputs, strict=True)})
    return np.asarray(found[0]).astype(np.float64)


def lowest_cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(((a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)).min())


def query(preset: Preset, real: int) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.randint(0, preset.predictor.vocabulary, (1, preset.query_tokens), generator=torch.manual_seed(1))
    return ids, torch.arange(preset.query_tokens)[None] < real


@pytest.mark.parametrize("squeezed", [False, True], ids=["V-JEPA 2", "V-JEPA 2.1"])
@pytest.mark.parametrize("precision, head_dim", [("fp16", 32), ("fp16", 64), ("bf16", 64)])
def test_the_vision_encoder(precision: str, head_dim: int, squeezed: bool) -> None:
    preset = sized(head_dim, squeezed)
    made, clip = model(preset), probe_clip(preset, 0)
    expected = made.vision_encoder(clip).detach().double().numpy()
    pixels = clip.numpy().astype("float16" if precision == "fp16" else "float32")
    found = evaluate(exported(made, preset, "vision_encoder", precision, "fused"), pixels)
    assert found.shape == expected.shape
    assert lowest_cosine(expected, found) >= 0.999
    if precision == "fp16":  # ONNX Runtime's CPU has no bf16
        native = in_onnx_runtime(exported(made, preset, "vision_encoder", precision, "native"), pixels)
        assert lowest_cosine(native, found) >= 0.9999
    wrong = model(sized(head_dim, not squeezed)).vision_encoder
    wrong.load_state_dict(made.vision_encoder.state_dict())
    assert lowest_cosine(expected, wrong(clip).detach().double().numpy()) < 0.998, "the tables matter here"


@pytest.mark.parametrize("precision, head_dim", [("fp16", 32), ("fp16", 64), ("bf16", 64)])
def test_the_predictor_with_padding(precision: str, head_dim: int) -> None:
    preset = sized(head_dim)
    made, (ids, mask) = model(preset), query(preset, real=6)
    visual = torch.randn(1, visual_tokens(preset), preset.vision.width, generator=torch.manual_seed(2))
    visual = visual.to({"fp16": torch.float16, "bf16": torch.bfloat16}[precision])
    given = visual.numpy() if precision == "fp16" else visual.view(torch.uint16).numpy().view("bfloat16")
    expected = made.predictor(visual.float(), ids, mask).detach().double().numpy()
    graph = exported(made, preset, "predictor", precision, "fused")
    found = evaluate(graph, given, ids.numpy(), mask.numpy())
    assert lowest_cosine(expected, found) >= 0.999
    other = torch.where(mask, ids, (ids + 7) % preset.predictor.vocabulary)
    assert np.array_equal(found, evaluate(graph, given, other.numpy(), mask.numpy())), "padding has no effect"
    if precision == "fp16":
        native = exported(made, preset, "predictor", precision, "native")
        assert lowest_cosine(in_onnx_runtime(native, given, ids.numpy(), mask.numpy()), found) >= 0.9999


def ours(graph: EngineGraph) -> list[Any]:
    return [node for node in graph.model.graph if node.domain == plugins.DOMAIN]


@pytest.mark.parametrize("name", plugins.ENGINES)
def test_a_layer_has_one_product_and_one_node_where_it_had_a_dozen(name: str) -> None:
    preset = sized(64)
    made = model(preset)
    graph, native = (exported(made, preset, name, "fp16", flavour) for flavour in ("fused", "native"))
    onnx.checker.check_model(ir.to_proto(graph.model))
    axes = name == "vision_encoder"
    plugin, heads = (plugins.AXES, (3, 3)) if axes else (plugins.HALVES, (4, 2))
    assert graph.spec.plugins == (plugin.name,) and native.spec.plugins == ()
    assert graph.nodes_a_layer < native.nodes_a_layer
    assert (graph.spec.inputs, graph.spec.outputs) == (native.spec.inputs, native.spec.outputs)
    nodes = ours(graph)
    assert (
        len(nodes) == 2
        and len({node.inputs[1].name for node in nodes}) == 1
        and nodes[0].inputs[1].name == ("rotary.table")
    ), "one table for all layers"
    for node in nodes:
        qkv, rotary, *key_mask = node.inputs
        tokens = visual_tokens(preset) + (0 if axes else preset.query_tokens)
        assert tuple(qkv.shape) == (1, tokens, (heads[0] + 2 * heads[1]) * 64) and qkv.dtype == ir.DataType.FLOAT16
        assert rotary.const_value is not None and rotary.dtype == ir.DataType.FLOAT
        assert [(x.dtype, tuple(x.shape)) for x in key_mask] == [(ir.DataType.INT32, (1, -(-tokens // 4)))] * (not axes)
        assert tuple(node.outputs[0].shape) == (1, tokens, heads[0] * 64)
        attributes = {key: attribute.value for key, attribute in node.attributes.items()}
        assert tuple(attributes.pop("heads")) == heads
        assert not axes or tuple(attributes.pop("picture")) == (4, 4)
        assert attributes == {"plugin_namespace": "vlj_edge", "plugin_version": "1", "aot": 1}
        product = qkv.producer() if not axes else qkv.producer().inputs[0].producer()
        assert product.op_type == "MatMul"
    kinds = {node.op_type for node in graph.model.graph}
    assert not kinds & {"Attention", "RotaryEmbedding", "Where", "Split"}
    assert sum("q_proj" in node.name or "k_proj" in node.name for node in graph.model.graph) == 0


def test_packed_weights_are_those_of_the_three_projections() -> None:
    preset = sized(32)
    made = model(preset)
    graph = exported(made, preset, "predictor", "fp16", "fused")
    parts = made.predictor.layers[1].self_attn
    wanted = torch.cat([part.weight for part in (parts.q_proj, parts.k_proj, parts.v_proj)]).half().T.detach().numpy()
    held = graph.model.graph.initializers["layers.1.self_attn.qkv_proj/MatMul.weight"].const_value
    assert np.array_equal(held.numpy(), wanted)


@pytest.mark.parametrize("name", plugins.ENGINES)
def test_int8_products_around_it(name: str) -> None:
    preset = sized(64)
    made, (ids, mask) = model(preset), query(preset, real=6)
    clips = [probe_clip(preset, seed) for seed in range(3)]
    with (
        torch.no_grad(),
        record_input_ranges(made.vision_encoder) as of_encoder,
        record_input_ranges(made.predictor) as of_predictor,
    ):
        tokens = [made.vision_encoder(clip) for clip in clips]
        embeddings = [made.predictor(visual, ids, mask) for visual in tokens]
    encoder = name == "vision_encoder"
    ranges = of_encoder if encoder else of_predictor
    graph, native = (
        exported(made, preset, name, "int8-fp16", flavour, ranges=dict(ranges)) for flavour in ("fused", "native")
    )
    first = clips[0].half().numpy() if encoder else tokens[0].half().numpy()
    inputs = (first,) if encoder else (first, ids.numpy(), mask.numpy())
    found = evaluate(graph, *inputs)
    assert lowest_cosine(in_onnx_runtime(native, *inputs), found) >= 0.999
    assert lowest_cosine((tokens if encoder else embeddings)[0].double().numpy(), found) >= 0.98
    assert all(node.inputs[0].dtype == ir.DataType.FLOAT16 for node in ours(graph))


@pytest.mark.parametrize("count", [1, 4, 7, 44, 45])
def test_the_key_mask_has_a_byte_per_key(count: int) -> None:
    real = torch.rand(1, count, generator=torch.manual_seed(count)) < 0.5
    found = fused.key_mask_bytes(real)
    assert found.dtype == torch.int32 and found.shape == (1, -(-count // 4))
    as_bytes = found.numpy().view(np.uint8)
    assert np.array_equal(as_bytes[0, :count], real[0].numpy()) and not as_bytes[0, count:].any()


def test_what_the_kernel_does_not_support_is_an_error_at_export() -> None:
    preset = sized(64)
    made = model(preset)
    for precision in ("fp32", "int8w"):
        with pytest.raises(VljEdgeError, match=rf"predictor: {precision} .*--precision fp16"):
            exported(made, preset, "predictor", precision, "fused")
    tiny = model(TINY)
    with pytest.raises(VljEdgeError, match=r"24.*--flavour native"):
        exported(tiny, TINY, "vision_encoder", "fp16", "fused")
    with pytest.raises(VljEdgeError, match=r"16.*--flavour native"):
        exported(tiny, TINY, "predictor", "fp16", "fused")
    with pytest.raises(TypeError, match="no attention"):
        fused.fuse(tiny.decoder, "float16", TINY.vision, TINY.clip)


def test_the_other_engines_stay_native() -> None:
    preset = sized(64)
    graph = exported(model(preset), preset, "decoder", "fp16", "fused")
    assert graph.spec.plugins == () and not ours(graph) and graph.spec.opset == 23
