"""What a graph is computed and stored in: checked after the cast, never assumed."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from torch import nn

from vlj_edge.errors import VljEdgeError

Module = TypeVar("Module", bound=nn.Module)
Array = npt.NDArray[Any]

# What stays in fp32 in an fp16 engine, and why. Softmax and norm statistics are fp32 inside their own operators.
KEPT_FP32: dict[str, tuple[str, ...]] = {
    "vision_encoder": ("the 3-D RoPE tables and the rotation of q and k: fp16 would round every angle",),
    "predictor": ("the L2 norm of the embedding: squares of small components underflow fp16",),
    "decoder": ("the logits handed out, so that near ties are the same on every backend",),
    "text_encoder": ("the L2 norm of the embedding: squares of small components underflow fp16",),
}
_COMPUTE = ("MatMul", "Gemm", "Conv", "Attention")
_STORED_INT8_ABOVE = 4096  # elements; smaller weights are not worth a node
BLOCK = 32  # weights that share a scale


def half(module: Module) -> Module:
    """A copy of the module with fp16 weights and activations."""
    return copy.deepcopy(module).half()


def unchanged(module: Module) -> Module:
    """The module itself: the cast to fp32, which is what weights are loaded in."""
    return module


def check_fp16(model: ir.Model, engine: str) -> None:
    """Every matrix operator reads and writes fp16, or the export fails.

    Raises:
        VljEdgeError: an operator stayed in fp32; it is named.
    """
    for node in model.graph:
        if node.op_type in _COMPUTE and node.outputs[0].dtype != ir.DataType.FLOAT16:
            raise VljEdgeError(
                f"{engine}: {node.name} computes in {node.outputs[0].dtype} although fp16 was asked for:"
                " export without --fp16 and report this"
            )


def store_int8(model: ir.Model) -> None:
    """Store large weights as int8 with an fp32 scale for every BLOCK inputs of a matrix's column, or entries of an
    embedding's row; arithmetic stays fp32.

    Symmetric, scale = max |w| / 127, so a weight is off by at most scale / 2. Blocks, because one scale a column is set
    by its largest weight: with blocks the lowest cosine of nano's text embeddings to torch rose from 0.993 to 0.996.
    """
    for node in list(model.graph):
        if node.op_type == "MatMul" and _is_large_weight(node.inputs[1], axis=0):
            _store_matrix(model.graph, node)
        elif node.op_type == "Gather" and _is_large_weight(node.inputs[0], axis=1):
            _store_table(model.graph, node)


def _store_matrix(graph: ir.Graph, matmul: ir.Node) -> None:
    weight = matmul.inputs[1]
    assert weight is not None and weight.const_value is not None and weight.name is not None
    stored = _store(graph, weight, axis=0)
    dequantise = _dequantise(matmul, *stored, axis=0, like=weight)
    graph.insert_before(matmul, dequantise)
    matmul.replace_input_with(1, dequantise.outputs[0])
    graph.initializers.pop(weight.name, None)


def _store_table(graph: ir.Graph, gather: ir.Node) -> None:
    # Dequantising the rows that were looked up, instead of the whole table and then looking up.
    table, ids = gather.inputs
    assert table is not None and table.const_value is not None and table.name is not None and ids is not None
    stored, scale = _store(graph, table, axis=1)
    rows = ir.node("Gather", [stored, ids], name=f"{gather.name}.rows")
    scales = ir.node("Gather", [scale, ids], name=f"{gather.name}.scales")
    for node in (rows, scales):
        node.outputs[0].name = f"{node.name}:"
    dequantise = _dequantise(gather, rows.outputs[0], scales.outputs[0], axis=-1, like=gather.outputs[0])
    graph.insert_before(gather, [rows, scales, dequantise])
    gather.outputs[0].replace_all_uses_with(dequantise.outputs[0])
    graph.remove(gather, safe=True)
    graph.initializers.pop(table.name, None)


def _dequantise(reader: ir.Node, stored: ir.Value, scale: ir.Value, axis: int, like: ir.Value) -> ir.Node:
    attributes = {"axis": axis, "block_size": BLOCK}
    node = ir.node("DequantizeLinear", [stored, scale], attributes=attributes, name=f"{reader.name}.dequantise")
    node.outputs[0].name = f"{node.name}:"
    node.outputs[0].shape, node.outputs[0].type = like.shape, like.type
    return node


def _store(graph: ir.Graph, weight: ir.Value, axis: int) -> tuple[ir.Value, ir.Value]:
    assert weight.const_value is not None and weight.name is not None
    stored, scale = quantise(weight.const_value.numpy(), axis)
    return _initializer(graph, f"{weight.name}_int8", stored), _initializer(graph, f"{weight.name}_scale", scale)


def _is_large_weight(value: ir.Value | None, axis: int) -> bool:
    if value is None or not value.is_initializer() or value.const_value is None:
        return False
    shape = value.const_value.shape.numpy()
    large = len(shape) == 2 and shape[0] * shape[1] > _STORED_INT8_ABOVE and shape[axis] % BLOCK == 0
    return large and value.const_value.dtype == ir.DataType.FLOAT


def quantise(weight: Array, axis: int) -> tuple[Array, Array]:
    """int8 of the weight's shape, and float32 scales with `axis` shorter by BLOCK; weight is 2-D, BLOCK divides it."""
    weight = np.moveaxis(weight, axis, 1)
    blocks = weight.reshape(len(weight), -1, BLOCK)
    scale = (np.maximum(np.abs(blocks).max(axis=2), 1e-12) / 127).astype(np.float32)
    stored = np.rint(blocks / scale[..., None]).astype(np.int8).reshape(weight.shape)
    return np.ascontiguousarray(np.moveaxis(stored, 1, axis)), np.ascontiguousarray(np.moveaxis(scale, 1, axis))


def _initializer(graph: ir.Graph, name: str, array: Array) -> ir.Value:
    if name in graph.initializers:
        return graph.initializers[name]
    tensor = ir.tensor(array, name=name)
    value = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
    graph.initializers[name] = value
    return value
