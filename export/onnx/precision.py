"""Checking that a graph computes in the requested precision, and recording the ranges that int8 activations need."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import onnx_ir as ir
import torch
from torch import nn

from vlj_edge.errors import VljEdgeError

from ..precisions import Precision
from . import plugins

TORCH_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_ONNX_DTYPES = {"fp32": ir.DataType.FLOAT, "fp16": ir.DataType.FLOAT16, "bf16": ir.DataType.BFLOAT16}

_RESIDUAL = "the residual stream and its norms: some channels grow so large that fp16 and bf16 would lose what is added"
_UNIT = "the L2 norm of the embedding: squares of small components underflow fp16"
# The parts of an fp16 or bf16 engine that stay in fp32, and why. Softmax statistics are fp32 inside their own operator.
KEPT_FP32: dict[str, tuple[str, ...]] = {
    "vision_encoder": ("the 3-D RoPE tables and the rotation of q and k: fp16 would round every angle", _RESIDUAL),
    "predictor": (_RESIDUAL, _UNIT),
    "decoder": (_RESIDUAL, "the logits, so that near ties are decided alike on every backend"),
    "text_encoder": (_UNIT,),
}
# Of the families whose modules are transformers' own.
KEPT_FP32_OF_FAMILIES = {"vision_encoder": (_UNIT,), "text_encoder": (_UNIT,)}
_COMPUTE = ("MatMul", "Gemm", "Conv", "Attention", plugins.AXES.name, plugins.HALVES.name)


def check_compute(model: ir.Model, engine: str, precision: Precision) -> None:
    """Check that every matrix operator computes in the requested precision.

    Raises:
        VljEdgeError: an operator does not; the message has its name.
    """
    for node in model.graph:
        if node.op_type in _COMPUTE and node.outputs[0].dtype != _ONNX_DTYPES[precision.compute]:
            raise VljEdgeError(
                f"{engine}: {node.name} computes in {node.outputs[0].dtype} instead of {precision.compute}:"
                " choose another --precision, and report this"
            )


@contextmanager
def record_input_ranges(module: nn.Module) -> Iterator[dict[str, float]]:
    """Yield a dict that receives the largest absolute input of each linear layer, by the layer's name."""
    ranges: dict[str, float] = {}

    def hook(name: str) -> Any:
        def record(layer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            ranges[name] = max(ranges.get(name, 0.0), float(inputs[0].detach().abs().max()))

        return record

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
