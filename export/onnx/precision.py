"""What a graph is computed and stored in: chosen per engine, checked after the cast, never assumed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir
import torch
from torch import nn

from vlj_edge.bundle import ENGINE_NAMES
from vlj_edge.errors import VljEdgeError
from vlj_edge.presets import Preset

from . import plugins


@dataclass(frozen=True)
class Precision:
    """How one engine computes.

    Attributes:
        compute: what its matrix products read and write: "fp32", "fp16" or "bf16".
        weights: what its large matrices are stored in instead: "int8" or "int4".
        int8_activations: its matrix products multiply int8 by int8; activation scales are measured on example inputs.
    """

    compute: str
    weights: str | None = None
    int8_activations: bool = False


PRECISIONS: dict[str, Precision] = {
    "fp32": Precision("fp32"),
    "fp16": Precision("fp16"),
    "bf16": Precision("bf16"),
    "int8": Precision("fp32", "int8", int8_activations=True),
    "int8w": Precision("fp32", "int8"),
    "int4w": Precision("fp32", "int4"),
    "int8-fp16": Precision("fp16", "int8", int8_activations=True),
    "int8w-fp16": Precision("fp16", "int8"),
    "int4w-fp16": Precision("fp16", "int4"),
}
TORCH = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_ONNX = {"fp32": ir.DataType.FLOAT, "fp16": ir.DataType.FLOAT16, "bf16": ir.DataType.BFLOAT16}

# The text encoder runs once for a label or a search, so its time is no matter, and MiniLM bears neither: with int8
# activations its embeddings fall to cosine 0.87, with int4 weights to 0.76 (export/parity.py on nano). Where one name
# is given for all engines it is stored as int8 instead; the summary and the manifest say so.
_FOR_TEXT = {"int8": "int8w", "int4w": "int8w", "int8-fp16": "int8w-fp16", "int4w-fp16": "int8w-fp16"}

_RESIDUAL = "the residual stream and its norms: single channels grow so large that what is added to them would be lost"
_UNIT = "the L2 norm of the embedding: squares of small components underflow fp16"
# What stays in fp32 in an fp16 or bf16 engine, and why. Softmax statistics are fp32 inside their own operator.
KEPT_FP32: dict[str, tuple[str, ...]] = {
    "vision_encoder": ("the 3-D RoPE tables and the rotation of q and k: fp16 would round every angle", _RESIDUAL),
    "predictor": (_RESIDUAL, _UNIT),
    "decoder": (_RESIDUAL, "the logits handed out, so that near ties are the same on every backend"),
    "text_encoder": (_UNIT,),
}
_COMPUTE = ("MatMul", "Gemm", "Conv", "Attention", plugins.AXES.name, plugins.HALVES.name)


def select_precision(preset: Preset, wanted: str | None, holds_fp16: bool, flavour: str = "native") -> dict[str, str]:
    """The precision of every engine.

    Args:
        wanted: None for the preset's own, one name of PRECISIONS for all engines, or "engine=name" with commas between;
            an engine that is not named keeps the preset's.
        holds_fp16: whether the text backbone's activations stay within fp16.
        flavour: "portable" has no blocks of int8, so that its text encoder stays in what it computes in.

    Raises:
        VljEdgeError: there is no such engine or precision, or the text encoder overflows it.
    """
    chosen = dict.fromkeys(ENGINE_NAMES, "fp32")
    if preset.text.int8_storage and flavour != "portable":
        chosen["text_encoder"] = "int8w"
    named = set[str]()
    for item in (wanted or "").split(",") if wanted else ():
        engine, mark, name = item.strip().rpartition("=")
        if (mark and engine not in ENGINE_NAMES) or name not in PRECISIONS:
            raise VljEdgeError(
                f"'{item.strip()}' is no precision: name one of {', '.join(PRECISIONS)}, or engine=precision with an"
                f" engine of {', '.join(ENGINE_NAMES)}"
            )
        if mark:
            chosen[engine] = name
            named.add(engine)
        else:
            of_text = _FOR_TEXT.get(name, name) if flavour != "portable" else PRECISIONS[name].compute
            chosen = dict.fromkeys(ENGINE_NAMES, name) | {"text_encoder": of_text}
    text = chosen["text_encoder"]
    if PRECISIONS[text].compute == "fp16" and not holds_fp16:
        if "text_encoder" in named:
            raise VljEdgeError(
                f"{preset.text.backbone} does not run in {text}: its activations reach 8e5 and fp16 ends at 65504:"
                " name text_encoder=bf16, or text_encoder=int8w"
            )
        raise VljEdgeError(
            f"{preset.text.backbone}, the text encoder, does not run in {text}: its activations reach 8e5 and fp16 ends"
            f" at 65504: name --precision {wanted},text_encoder=bf16, or text_encoder=fp32"
        )
    return chosen


def check_compute(model: ir.Model, engine: str, precision: Precision) -> None:
    """Every matrix operator computes in what was asked for, or the export fails.

    Raises:
        VljEdgeError: an operator does not; it is named.
    """
    for node in model.graph:
        if node.op_type in _COMPUTE and node.outputs[0].dtype != _ONNX[precision.compute]:
            raise VljEdgeError(
                f"{engine}: {node.name} computes in {node.outputs[0].dtype} although {precision.compute} was asked for:"
                " name another --precision and report this"
            )


@contextmanager
def observe(module: nn.Module) -> Iterator[dict[str, float]]:
    """Largest absolute input of every linear layer while the block runs, by the layer's name."""
    ranges: dict[str, float] = {}

    def hook(name: str) -> Any:
        def note(layer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            ranges[name] = max(ranges.get(name, 0.0), float(inputs[0].detach().abs().max()))

        return note

    handles = [
        layer.register_forward_pre_hook(hook(name))
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Linear)
    ]
    try:
        yield ranges
    finally:
        for handle in handles:
            handle.remove()
