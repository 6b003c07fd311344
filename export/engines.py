"""Exporting a module as the graph of an engine: its inputs and outputs, its precision, its entry in the manifest."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, TypeAlias

import onnx_ir as ir
import torch
from torch import Tensor, nn

from vlj_edge.bundle import KEPT, EngineSpec, TensorSpec
from vlj_edge.presets import ModelShape, Preset

from .models import fused, ops
from .models.decoder import Decoder
from .models.label_head import LabelHead, PooledEncoder
from .models.nearest_caption import NearestCaption
from .models.vision_encoder import VisionEncoder
from .models.vl_jepa import visual_tokens
from .onnx import graph as onnx_graph
from .onnx import plugins
from .onnx.precision import KEPT_FP32, KEPT_FP32_OF_FAMILIES, TORCH_DTYPES, check_compute
from .onnx.quantize import quantize
from .precisions import PRECISIONS, check_flavour

VISION_ENGINES = ("vision_encoder", "predictor")
_BY_TOKENS = ("visual_tokens", KEPT)  # inputs whose axis 1 is by tokens
OPSET = 23  # the first with Attention, RMSNormalization and RotaryEmbedding
PORTABLE_OPSET = 19  # for TensorRT 10.3: the last without Gelu, the first in which Q/DQ scales may be fp16
_KERNEL_TYPES = {"fp16": "float16", "bf16": "bfloat16"}
_MOST_NODES_A_LAYER = {"native": 40, "portable": 90, "fused": 30}


@dataclass(frozen=True)
class EngineGraph:
    """An exported engine in memory, with its entry in the manifest."""

    name: str
    model: ir.Model
    spec: EngineSpec
    nodes_a_layer: int


class DecoderStep(nn.Module):
    """Decoder.step() with the caches as separate outputs, as an ONNX graph needs them."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, embedding: Tensor, token: Tensor, position: Tensor, caches: list[Tensor]) -> tuple[Tensor, ...]:
        next_token, logits, written = self.decoder.step(embedding, token, position, caches)
        return next_token, logits, *written


def export_engine(
    name: str,
    module: nn.Module,
    preset: ModelShape,
    precision: str,
    ranges: dict[str, float] | None = None,
    flavour: str = "native",
    by_tokens: bool = False,
) -> EngineGraph:
    """Export a module. It is cast in place and must not be used afterwards.

    Args:
        name: one of ENGINE_NAMES.
        precision: a name of precisions.PRECISIONS.
        ranges: the largest absolute input of each linear layer (record_input_ranges); needed for int8 activations.
        flavour: "native", with the operators of opset 23; "portable", for backends that do not know them; or
            "fused", native with this project's attention kernel in the engines that plugins.ENGINES names.
        by_tokens: give the vision engines of VL-JEPA the input KEPT, the tokens that they are given.

    Raises:
        VljEdgeError: an operator would compute in another precision than was asked for, the flavour has no form for
            the weights, or the kernel does not serve the engine.
    """
    check_flavour(name, precision, flavour)
    types = PRECISIONS[precision]
    if flavour == "fused" and name not in plugins.ENGINES:
        flavour = "native"
    if flavour == "fused":
        assert isinstance(preset, Preset), "check_family() refuses the others"
        fused.fuse(module, _KERNEL_TYPES[types.compute], preset.vision, preset.clip)
        ranges = ranges and fused.add_qkv_ranges(ranges)
    elif isinstance(module, (VisionEncoder, PooledEncoder)):
        module.pair_by_halves()
    module = module.to(TORCH_DTYPES[types.compute])
    inputs, outputs, in_place = _INTERFACES[name](module, preset, TORCH_DTYPES[types.compute])
    tokens = 0
    if by_tokens and name in VISION_ENGINES:
        assert isinstance(preset, Preset), "check_request() refuses the others"
        tokens = visual_tokens(preset)
        inputs = _with_part_of_tokens(inputs, tokens)
    wrapped = DecoderStep(module) if isinstance(module, Decoder) else module
    opset = PORTABLE_OPSET if flavour == "portable" else OPSET
    with ops.portable() if flavour == "portable" else nullcontext():
        model = onnx_graph.to_onnx(wrapped, inputs, outputs, opset, by_tokens=_BY_TOKENS if tokens else ())
    check_compute(model, name, types)
    if ranges is not None and name == "decoder":
        ranges = {f"decoder.{layer}": largest for layer, largest in ranges.items()}  # names within DecoderStep
    nodes = onnx_graph.nodes_a_layer(model)  # Q/DQ nodes are not counted: backends fuse them into what they surround
    # The text encoder's layers are transformers' own code, and run once a label; so are all of the other families.
    own = isinstance(preset, Preset) and name != "text_encoder"
    assert not own or nodes <= _MOST_NODES_A_LAYER[flavour], f"{name}: {nodes} nodes in one layer"
    if types.weights is not None and not quantize(model, types, ranges):
        precision = types.compute  # what it is: no matrix was large enough
    kept = KEPT_FP32[name] if isinstance(preset, Preset) else KEPT_FP32_OF_FAMILIES.get(name, ())
    return EngineGraph(name, model, _engine_spec(name, model, precision, opset, in_place, kept, tokens), nodes)


def _engine_spec(
    name: str,
    model: ir.Model,
    precision: str,
    opset: int,
    in_place: dict[str, str],
    kept_fp32: tuple[str, ...],
    tokens: int,
) -> EngineSpec:
    """Describe an engine; `tokens` is the length, in the manifest, of axes that have none in the graph."""
    return EngineSpec(
        file=f"{name}.onnx",
        precision=precision,
        opset=opset,
        inputs=tuple(_tensor_spec(value, tokens) for value in model.graph.inputs),
        outputs=tuple(_tensor_spec(value, tokens) for value in model.graph.outputs),
        in_place=in_place,
        plugins=tuple(sorted({node.op_type for node in model.graph if node.domain == plugins.DOMAIN})),
        kept_fp32=kept_fp32 if PRECISIONS[precision].compute != "fp32" else (),
    )


Interface: TypeAlias = tuple[dict[str, Any], list[str], dict[str, str]]  # inputs, outputs, output -> input in place


def _vision_encoder(module: Any, preset: ModelShape, dtype: torch.dtype) -> Interface:
    side = preset.preprocess.crop
    # numpy has no bf16, and the pixels come from numpy: a bf16 encoder rounds them itself.
    pixel_dtype = torch.float32 if dtype == torch.bfloat16 else dtype
    output = "visual_tokens" if isinstance(preset, Preset) else "embedding"
    return {"pixels": torch.zeros(1, preset.clip.frames, 3, side, side, dtype=pixel_dtype)}, [output], {}


def _predictor(module: Any, preset: ModelShape, dtype: torch.dtype) -> Interface:
    assert isinstance(preset, Preset)
    inputs = {
        "visual_tokens": torch.zeros(1, visual_tokens(preset), preset.vision.width, dtype=dtype),
        "query_ids": torch.zeros(1, preset.query_tokens, dtype=torch.int64),
        "query_mask": torch.ones(1, preset.query_tokens, dtype=torch.bool),
    }
    return inputs, ["embedding"], {}


def _decoder(module: Any, preset: ModelShape, dtype: torch.dtype) -> Interface:
    if isinstance(module, NearestCaption):
        return {"embedding": torch.zeros(1, preset.embedding)}, ["caption", "similarity"], {}
    if isinstance(module, LabelHead):
        return {"embedding": torch.full((1, preset.embedding), preset.embedding**-0.5)}, ["logits"], {}
    inputs = {
        "embedding": torch.zeros(1, preset.embedding),
        "token": torch.zeros(1, 1, dtype=torch.int64),
        "position": torch.zeros(1, dtype=torch.int64),
        "key_cache_{},value_cache_{}": module.empty_caches(),
    }
    caches = onnx_graph.flat_names(inputs)[3:]
    in_place = {name.replace("_cache_", "_cache_out_"): name for name in caches}
    return inputs, ["next_token", "logits", *in_place], in_place


def _text_encoder(module: Any, preset: ModelShape, dtype: torch.dtype) -> Interface:
    assert preset.text is not None
    inputs = {
        "text_ids": torch.zeros(1, preset.text.tokens, dtype=torch.int64),
        "text_mask": torch.ones(1, preset.text.tokens, dtype=torch.bool),
    }
    return inputs, ["embedding"], {}


_INTERFACES: dict[str, Callable[[Any, ModelShape, torch.dtype], Interface]] = {
    "vision_encoder": _vision_encoder,
    "predictor": _predictor,
    "decoder": _decoder,
    "text_encoder": _text_encoder,
}


def _with_part_of_tokens(inputs: dict[str, Any], tokens: int) -> dict[str, Any]:
    """Add KEPT, and leave some visual tokens out, so that their number is no constant of the graph."""
    part = tokens // 2 + 1
    cut = {name: value[:, :part] if name == "visual_tokens" else value for name, value in inputs.items()}
    return cut | {KEPT: torch.arange(part)[None]}


def _tensor_spec(value: ir.Value, tokens: int) -> TensorSpec:
    assert value.name is not None and value.dtype is not None and value.shape is not None
    sizes = [size if isinstance(size, int) else None for size in value.shape]
    axis = sizes.index(None) if None in sizes else None
    return TensorSpec(
        value.name, value.dtype.numpy().name, tuple(tokens if size is None else size for size in sizes), axis
    )
