"""Precisions and flavours: what each engine computes in, what is refused, and that the runtime runs all of them."""

from __future__ import annotations

import collections
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import vlj_edge
from tests.export.tiny_weights import TINY, write_tiny_weights
from vlj_edge.bundle import ENGINE_NAMES, verify_bundle
from vlj_edge.errors import VljEdgeError
from vlj_edge.export.bundle import Exported, export_bundle
from vlj_edge.export.engines import export_engine
from vlj_edge.export.models import ops
from vlj_edge.export.onnx import quantize
from vlj_edge.export.onnx.precision import record_input_ranges
from vlj_edge.export.parity_cases import probe_clip
from vlj_edge.export.precisions import PRECISIONS, select_precision
from vlj_edge.export.request import ExportRequest
from vlj_edge.export.weights.locations import WeightSources
from vlj_edge.export.weights.sources import open_weights
from vlj_edge.presets import VisionEncoder, preset

CLIPS = [probe_clip(TINY, seed).numpy() for seed in range(12)]
SEEN = ("fp32", "fp16", "int8-fp16", "int4w")  # exported by tests that are not slow
YOUNG = {"Attention", "RMSNormalization", "RotaryEmbedding", "TensorScatter", "Gelu"}


# Dimensions that fill blocks of 32, which TINY's do not.
WHOLE = replace(
    TINY,
    name="whole",
    vision=VisionEncoder(None, tubelet=2, patch=8, width=96, layers=2, heads=3, mlp=160),
    predictor=replace(TINY.predictor, mlp=96),
    decoder=replace(TINY.decoder, width=64, mlp=96),
)


def slow(precision: str) -> Any:
    return pytest.param(precision, marks=pytest.mark.slow)


@pytest.fixture(scope="module")
def whole_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_weights(tmp_path_factory.mktemp("weights") / "whole", WHOLE)


def export(weights: Path, out: Path, precision: str, flavour: str = "native") -> Exported:
    return export_bundle(
        ExportRequest(WeightSources(weights), WHOLE, out, precision=precision, flavour=flavour, clips=CLIPS)
    )


def types_of(bundle: Path, engine: str) -> collections.Counter[int]:
    """Data types of the large matrices."""
    weights = onnx.load(bundle / f"{engine}.onnx").graph.initializer
    return collections.Counter(w.data_type for w in weights if len(w.dims) == 2 and np.prod(w.dims) > 4096)


def test_a_precision_for_every_engine() -> None:
    nano = preset("nano")
    assert select_precision(nano, None) == dict.fromkeys(ENGINE_NAMES, "fp32") | {"text_encoder": "int8w"}
    assert set(select_precision(nano, "fp16").values()) == {"fp16"}
    mixed = select_precision(nano, "predictor=int4w, decoder=int8")
    assert (mixed["predictor"], mixed["decoder"], mixed["vision_encoder"]) == ("int4w", "int8", "fp32")
    assert select_precision(nano, "fp16,decoder=fp32")["decoder"] == "fp32"
    assert select_precision(nano, "int4w")["text_encoder"] == "int8w", "int4 ruins the sentence encoder"


@pytest.mark.parametrize("wanted", ["fp8", "encoder=fp16", "predictor=", "fp16,,", "predictor=fp16,decoder=half"])
def test_an_unknown_precision_or_engine_lists_what_there_is(wanted: str) -> None:
    with pytest.raises(VljEdgeError, match=r"fp32, .* vision_encoder"):
        select_precision(preset("nano"), wanted)


@pytest.mark.parametrize("wanted", ["fp16", "int8-fp16", "text_encoder=fp16"])
def test_fp16_is_refused_for_embeddinggemma(wanted: str) -> None:
    with pytest.raises(VljEdgeError, match=r"embeddinggemma-300m.*8e5.*65504.*bf16"):
        select_precision(preset("vl-jepa-1.6b"), wanted)
    allowed = select_precision(preset("vl-jepa-1.6b"), "fp16,text_encoder=bf16")
    assert allowed["text_encoder"] == "bf16" and allowed["decoder"] == "fp16"


@pytest.mark.parametrize("precision", ["int8-fp16", "int4w", *(slow(name) for name in PRECISIONS if name not in SEEN)])
def test_every_precision_is_what_it_says(precision: str, whole_weights: Path, tmp_path: Path) -> None:
    exported = export(whole_weights, tmp_path / "bundle", precision)
    how = PRECISIONS[precision]
    stored = {"int8": onnx.TensorProto.INT8, "int4": onnx.TensorProto.INT4, None: onnx.TensorProto.BFLOAT16}
    for engine in ("vision_encoder", "predictor", "decoder"):
        assert stored[how.weights] in types_of(exported.bundle, engine), engine
        graph = onnx.load(exported.bundle / f"{engine}.onnx")
        onnx.checker.check_model(graph, full_check=True)
        rounding = sum(node.op_type == "QuantizeLinear" for node in graph.graph.node)
        assert bool(rounding) == how.int8_activations
    manifest = verify_bundle(exported.bundle)
    assert manifest.engines["predictor"].precision == precision
    assert bool(manifest.engines["predictor"].kept_fp32) == (how.compute != "fp32")
    model = vlj_edge.load(exported.bundle)
    if precision == "bf16":
        with pytest.raises(VljEdgeError, match=r"vision_encoder .* bf16.*--precision"):
            _ = model.chain.vision
    assert abs(np.linalg.norm(model.embed_text("nothing moves")) - 1) < 1e-3


@pytest.mark.parametrize("precision", ["fp32", slow("fp16"), slow("int8")])
def test_the_portable_flavour_has_no_young_operator_and_the_same_parity(
    precision: str, whole_weights: Path, tmp_path: Path
) -> None:
    native = export(whole_weights, tmp_path / "native", precision)
    portable = export(whole_weights, tmp_path / "portable", precision, "portable")
    for engine in ENGINE_NAMES:
        graph = onnx.load(portable.bundle / f"{engine}.onnx")
        onnx.checker.check_model(graph, full_check=True)
        assert [(o.domain, o.version) for o in graph.opset_import] == [("", 19)]
        assert not YOUNG & {node.op_type for node in graph.graph.node}
    assert {e.name: e.precision for e in portable.engines}["text_encoder"] in ("fp32", "fp16"), "no blocks of int8"
    for one, other in zip(native.parity, portable.parity, strict=True):
        assert one.engine == other.engine
        assert one.engine == "text_encoder" or abs(one.cosine - other.cosine) < 2e-3
    pictures = np.random.default_rng(0).integers(0, 256, (6, 40, 40, 3), np.uint8)
    (tmp_path / "pictures").mkdir()
    for number, picture in enumerate(pictures):
        cv2.imwrite(str(tmp_path / "pictures" / f"{number}.png"), picture)
    if precision == "fp32":
        texts = [
            [narration.text for narration in vlj_edge.load(bundle).narrate(tmp_path / "pictures", every_window=True)]
            for bundle in (native.bundle, portable.bundle)
        ]
        assert texts[0] == texts[1], "the cache is written in place, and right"


@pytest.mark.parametrize(
    ("engine", "precision", "words"),
    [("predictor", "int4w", "opset 21"), ("decoder", "int8w", "opset 21"), ("vision_encoder", "bf16", "opset 22")],
)
def test_the_portable_flavour_refuses_what_it_cannot_hold(
    engine: str, precision: str, words: str, tiny_weights: Path
) -> None:
    module = open_weights(WeightSources(tiny_weights), TINY).loaders[engine]()
    with pytest.raises(VljEdgeError, match=words):
        export_engine(engine, module, TINY, precision, flavour="portable")


def test_a_matrix_that_does_not_fill_blocks_is_named(tiny_weights: Path, tmp_path: Path) -> None:
    with pytest.raises(VljEdgeError, match=r"blocks\.0\..* 48 .*32"):
        export_bundle(ExportRequest(WeightSources(tiny_weights), TINY, tmp_path / "bundle", precision="int8w"))
    assert list(tmp_path.iterdir()) == []


def test_int8_activations_want_a_video(tiny_weights: Path, tmp_path: Path) -> None:
    with pytest.raises(VljEdgeError, match=r"decoder, predictor, vision_encoder.*--calibrate-on"):
        export_bundle(ExportRequest(WeightSources(tiny_weights), TINY, tmp_path / "bundle", precision="int8"))
    assert list(tmp_path.iterdir()) == []


def test_what_is_added_to_massive_channels_survives_fp16(tiny_weights: Path) -> None:
    """V-JEPA 2 has channels thousands of times the others. At 4,096 an fp16 residual stream moves in steps of 4."""
    encoder = open_weights(WeightSources(tiny_weights), TINY).loaders["vision_encoder"]()
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 32, TINY.vision.width, generator=generator)
    x[..., ::7] += 4096
    added = encoder.blocks[0](x, encoder.cos, encoder.sin, encoder.swap) - x
    half = encoder.half()
    added_in_half = half.blocks[0](x, half.cos, half.sin, half.swap) - x
    assert torch.nn.functional.cosine_similarity(added, added_in_half, dim=-1).min() > 0.999
    assert half.norm.weight.dtype == half.cos.dtype == torch.float32
    assert half(probe_clip(TINY, 0).half()).dtype == torch.float16


def test_ranges_are_those_of_the_layers_inputs() -> None:
    layer = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2))
    with record_input_ranges(layer) as ranges:
        layer(torch.tensor([[1.0, -7.0, 2.0, 0.0]]))
        layer(torch.tensor([[3.0, 1.0, 2.0, 0.0]]))
    assert ranges["0"] == 7 and set(ranges) == {"0", "2"}
    with record_input_ranges(layer) as again:
        pass
    layer(torch.zeros(1, 4))
    assert again == {}, "the hooks are gone"


matrices = arrays.arrays(np.float32, (64, 5), elements=st.floats(-100, 100, width=32))


@settings(deadline=None, max_examples=60)
@given(matrices, st.sampled_from([0, 1]))
def test_int8_blocks_are_off_by_half_a_step(weight: np.ndarray, axis: int) -> None:
    weight = weight if axis == 0 else np.ascontiguousarray(weight.T)
    stored, scale = quantize.quantize_blocks(weight, axis)
    step = scale.repeat(quantize.BLOCK, axis)
    assert stored.dtype == np.int8 and step.shape == weight.shape
    assert (np.abs(stored * step - weight) <= step * 0.5001 + 1e-6).all()


@settings(deadline=None, max_examples=60)
@given(matrices)
def test_int4_blocks_are_no_worse_than_plain_rounding(weight: np.ndarray) -> None:
    stored, scale = quantize.quantize_blocks(weight, 0, "int4")
    assert np.abs(stored).max() <= 7
    found = stored * scale.repeat(quantize.BLOCK, 0)
    largest = np.abs(weight.reshape(2, quantize.BLOCK, 5)).max(1) / 7
    step = np.maximum(largest, 1e-12).repeat(quantize.BLOCK, 0)
    plain = np.rint(weight / step) * step
    blocks = lambda error: (error.reshape(2, quantize.BLOCK, 5) ** 2).sum(1)  # noqa: E731
    assert (blocks(found - weight) <= blocks(plain - weight) * 1.0001 + 1e-5).all()


@settings(deadline=None, max_examples=30)
@given(arrays.arrays(np.int8, (6, 4), elements=st.integers(-7, 7)))
def test_two_int4_share_a_byte(values: np.ndarray) -> None:
    proto = onnx.TensorProto(
        data_type=onnx.TensorProto.INT4, dims=values.shape, raw_data=quantize._pack(values).tobytes()
    )
    assert (onnx.numpy_helper.to_array(proto).astype(np.int8) == values).all()


def test_portable_ends_with_its_block() -> None:
    with pytest.raises(ZeroDivisionError), ops.portable():
        assert ops._PORTABLE.get()
        raise ZeroDivisionError
    assert not ops._PORTABLE.get()
