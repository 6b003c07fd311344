"""The four engines: which module each is, with which inputs and outputs, in which precision."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor, nn

from vlj_edge.bundle import EngineSpec, TensorSpec
from vlj_edge.presets import Preset

from . import onnx_graph, precision
from .models.decoder import Decoder
from .models.text_encoder import TextEncoder
from .models.vl_jepa import visual_tokens
from .weights import LoadedWeights

OPSET = 23  # the first with Attention, RMSNormalization and RotaryEmbedding
CACHE_OPSET = 24  # the first with TensorScatter, and with Attention over a cache of known length
_MOST_NODES_A_LAYER = 40


@dataclass(frozen=True)
class EngineGraph:
    """One exported engine, still in memory, with what the manifest will say of it."""

    name: str
    model: ir.Model
    spec: EngineSpec
    nodes_a_layer: int


class DecoderStep(nn.Module):
    """Decoder.step with flat outputs."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, embedding: Tensor, token: Tensor, position: Tensor, caches: list[Tensor]) -> tuple[Tensor, ...]:
        next_token, logits, written = self.decoder.step(embedding, token, position, caches)
        return next_token, logits, *written


def export_engine(name: str, weights: LoadedWeights, preset: Preset, fp16: bool) -> EngineGraph:
    """One of ENGINE_NAMES. Exported one at a time, so that only one graph need be in memory.

    Raises:
        VljEdgeError: fp16 was asked for and an operator would compute in fp32.
    """
    model, cast = weights.model, precision.half if fp16 else precision.unchanged
    if name == "vision_encoder":
        return _vision_encoder(cast(model.vision_encoder), preset, fp16)
    if name == "predictor":
        return _predictor(cast(model.predictor), preset, fp16)
    if name == "decoder":
        return _decoder(cast(model.decoder), fp16)
    backbone = weights.text_backbone
    text = TextEncoder(backbone.model, model.text_projection)
    if fp16 and not backbone.holds_fp16:
        graph = _text_encoder(text, preset, fp16=False)
        return _with(graph, kept_fp32=("the whole engine: its activations overflow fp16",))
    return _text_encoder(cast(text), preset, fp16)


def _vision_encoder(module: nn.Module, preset: Preset, fp16: bool) -> EngineGraph:
    side = preset.preprocess.crop
    pixels = torch.zeros(1, preset.clip.frames, 3, side, side, dtype=_dtype(fp16))
    return _export("vision_encoder", module, {"pixels": pixels}, ["visual_tokens"], OPSET, fp16)


def _predictor(module: nn.Module, preset: Preset, fp16: bool) -> EngineGraph:
    inputs = {
        "visual_tokens": torch.zeros(1, visual_tokens(preset), preset.vision.width, dtype=_dtype(fp16)),
        "query_ids": torch.zeros(1, preset.query_tokens, dtype=torch.int64),
        "query_mask": torch.ones(1, preset.query_tokens, dtype=torch.bool),
    }
    return _export("predictor", module, inputs, ["embedding"], OPSET, fp16)


def _decoder(module: Decoder, fp16: bool) -> EngineGraph:
    inputs = {
        "embedding": torch.zeros(1, module.prefix_proj.in_features),
        "token": torch.zeros(1, 1, dtype=torch.int64),
        "position": torch.zeros(1, dtype=torch.int64),
        "key_cache_{},value_cache_{}": module.empty_caches(),
    }
    caches = onnx_graph.flat_names(inputs)[3:]
    in_place = {name.replace("_cache_", "_cache_out_"): name for name in caches}
    outputs = ["next_token", "logits", *in_place]
    return _export("decoder", DecoderStep(module), inputs, outputs, CACHE_OPSET, fp16, in_place)


def _text_encoder(module: TextEncoder, preset: Preset, fp16: bool) -> EngineGraph:
    inputs = {
        "text_ids": torch.zeros(1, preset.text.tokens, dtype=torch.int64),
        "text_mask": torch.ones(1, preset.text.tokens, dtype=torch.bool),
    }
    graph = _export("text_encoder", module, inputs, ["embedding"], OPSET, fp16)
    if preset.text.int8_storage and not fp16:
        precision.store_int8(graph.model)
        graph = replace(graph, nodes_a_layer=onnx_graph.nodes_a_layer(graph.model))
        return _with(graph, precision="int8w")
    return graph


def _export(
    name: str,
    module: nn.Module,
    inputs: dict[str, Any],
    outputs: list[str],
    opset: int,
    fp16: bool,
    in_place: dict[str, str] | None = None,
) -> EngineGraph:
    model = onnx_graph.to_onnx(module, inputs, outputs, opset)
    if fp16:
        precision.check_fp16(model, name)
    nodes = onnx_graph.nodes_a_layer(model)
    assert nodes <= _MOST_NODES_A_LAYER, f"{name}: {nodes} nodes in one layer"
    spec = EngineSpec(
        file=f"{name}.onnx",
        precision="fp16" if fp16 else "fp32",
        opset=opset,
        inputs=tuple(_tensor(value) for value in model.graph.inputs),
        outputs=tuple(_tensor(value) for value in model.graph.outputs),
        in_place=in_place or {},
        kept_fp32=precision.KEPT_FP32[name] if fp16 else (),
    )
    return EngineGraph(name, model, spec, nodes)


def _with(graph: EngineGraph, **changes: Any) -> EngineGraph:
    return replace(graph, spec=replace(graph.spec, **changes))


def _tensor(value: ir.Value) -> TensorSpec:
    assert value.name is not None and value.dtype is not None and value.shape is not None
    return TensorSpec(value.name, value.dtype.numpy().name, tuple(int(n) for n in value.shape.numpy()))


def _dtype(fp16: bool) -> torch.dtype:
    return torch.float16 if fp16 else torch.float32
