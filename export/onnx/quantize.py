"""Weights stored as int8 or int4 and int8 activations, as QuantizeLinear and DequantizeLinear (Q/DQ) nodes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from vlj_edge.errors import VljEdgeError

from ..precisions import Precision

Array = npt.NDArray[Any]

BLOCK = 32  # weights that share a scale
_LARGEST = {"int8": 127, "int4": 7}  # symmetric: the most negative value is not used
_STORED = {"int8": ir.DataType.INT8, "int4": ir.DataType.INT4}
_QUANTIZED_ABOVE = 4096  # elements; smaller weights are not worth a node
_SCALE_FACTORS = np.linspace(1.0, 0.7, 13, dtype=np.float32)  # tried for each block of int4


def quantize(model: ir.Model, precision: Precision, ranges: dict[str, float] | None = None) -> bool:
    """Store large matrices as `precision` says, in place, with a scale for every BLOCK inputs of a column. With int8
    activations each column has one scale, since an int8 product sums over the whole column.

    Token tables, and the decoder's output layer, which is one, are always int8 in blocks, so that large values of one
    token do not coarsen another's. They stay as they are below opset 21, which has no blocks.

    Args:
        ranges: largest absolute input of each linear layer by name, from `precision.record_input_ranges`.

    Returns:
        Whether there was any: small models may have no matrix that is large enough.

    Raises:
        VljEdgeError: a layer of a graph with int8 activations has no range, or a matrix does not divide into blocks.
    """
    if precision.weights is None:
        return False
    rounded: dict[str, ir.Value] = {}
    blocked = model.opset_imports[""] >= 21
    before = len(model.graph)
    for node in list(model.graph):
        if node.op_type == "Gather" and blocked and _is_large_weight(node.inputs[0], axis=1):
            _store_table(model.graph, node)
        elif node.op_type == "MatMul" and node.inputs[1] is not None:
            transposed = node.inputs[1].producer()
            if transposed is not None and transposed.op_type == "Transpose":
                if blocked:
                    _store_head(model.graph, node, transposed)
            elif _is_large_weight(node.inputs[1], axis=None):
                if precision.int8_activations:
                    _round_input(model.graph, node, ranges or {}, rounded)
                _store_matrix(model.graph, node, precision)
    return len(model.graph) > before  # each matrix that is stored gets a node that unpacks it


def quantize_blocks(weight: Array, axis: int, kind: str = "int8") -> tuple[Array, Array]:
    """Return integers of the weight's shape, int8, and float32 scales, one for BLOCK values along `axis`.

    `weight` is 2-D, and BLOCK divides `axis`. The error is at most half a scale for int8. For int4, each block takes
    the scale with the least squared error, between 0.7 and 1 times the one at which nothing is clipped.
    """
    weight = np.moveaxis(weight, axis, 1).astype(np.float32)
    grouped = weight.reshape(len(weight), -1, BLOCK)
    stored, scale = _round(grouped, kind)
    stored = stored.reshape(weight.shape)
    return np.ascontiguousarray(np.moveaxis(stored, 1, axis)), np.ascontiguousarray(np.moveaxis(scale, 1, axis))


def quantize_columns(weight: Array) -> tuple[Array, Array]:
    """Return int8 of the weight's shape (inputs, outputs), and a float32 scale for each output."""
    stored, scale = _round(np.ascontiguousarray(weight.T, np.float32)[:, None], "int8")
    return np.ascontiguousarray(stored[:, 0].T), scale[:, 0]


def _round(groups: Array, kind: str) -> tuple[Array, Array]:
    """Return (..., group) as integers, and one scale a group."""
    largest = _LARGEST[kind]
    whole = (np.maximum(np.abs(groups).max(axis=-1), 1e-12) / largest).astype(np.float32)
    stored = np.rint(groups / whole[..., None]).astype(np.int8)
    if kind == "int8":
        return stored, whole
    error = ((stored * whole[..., None] - groups) ** 2).sum(-1)
    scale = whole
    for factor in _SCALE_FACTORS[1:]:
        smaller = whole * factor
        tried = np.rint(groups / smaller[..., None]).clip(-largest, largest).astype(np.int8)
        tried_error = ((tried * smaller[..., None] - groups) ** 2).sum(-1)
        better = tried_error < error
        stored[better], error[better] = tried[better], tried_error[better]
        scale = np.where(better, smaller, scale)
    return stored, scale.astype(np.float32)


def _round_input(graph: ir.Graph, matmul: ir.Node, ranges: dict[str, float], rounded: dict[str, ir.Value]) -> None:
    """Put QuantizeLinear and DequantizeLinear before a product, once for all that read the same input."""
    source = matmul.inputs[0]
    assert source is not None and source.name is not None and matmul.name is not None
    if source.name not in rounded:
        layer = matmul.name.rpartition("/")[0]
        if not ranges.get(layer):
            raise VljEdgeError(f"no input of {layer} was recorded to set its int8 scale: choose another --precision")
        scale = _initializer(
            graph, f"{matmul.name}.input_scale", np.array(ranges[layer] / 127, _numpy(matmul.inputs[1]))
        )
        zero = _initializer(graph, f"{matmul.name}.input_zero", np.array(0, np.int8))
        q = ir.node("QuantizeLinear", [source, scale, zero], name=f"{matmul.name}.quantise")
        q.outputs[0].shape, q.outputs[0].type = source.shape, ir.TensorType(ir.DataType.INT8)
        dq = ir.node("DequantizeLinear", [q.outputs[0], scale, zero], name=f"{matmul.name}.dequantise_input")
        dq.outputs[0].shape, dq.outputs[0].type = source.shape, source.type
        for node in (q, dq):
            node.outputs[0].name = f"{node.name}:"
        graph.insert_before(matmul, [q, dq])
        rounded[source.name] = dq.outputs[0]
    matmul.replace_input_with(0, rounded[source.name])


def _store_matrix(graph: ir.Graph, matmul: ir.Node, precision: Precision) -> None:
    weight = matmul.inputs[1]
    assert weight is not None and weight.const_value is not None and precision.weights is not None
    if precision.int8_activations:
        stored, scale = quantize_columns(weight.const_value.numpy())
        values = _weights(graph, weight, stored, scale, "int8")
        dequantise = _dequantise(matmul, *values, {"axis": 1}, like=weight)
    else:
        inputs = weight.const_value.shape.numpy()[0]
        if inputs % BLOCK:
            raise VljEdgeError(
                f"{matmul.name} has {inputs} inputs, not a multiple of {BLOCK}: choose int8 or fp16 for this engine"
            )
        values = _weights(
            graph, weight, *quantize_blocks(weight.const_value.numpy(), 0, precision.weights), precision.weights
        )
        dequantise = _dequantise(matmul, *values, {"axis": 0, "block_size": BLOCK}, like=weight)
    graph.insert_before(matmul, dequantise)
    matmul.replace_input_with(1, dequantise.outputs[0])
    graph.initializers.pop(weight.name or "", None)


def _store_head(graph: ir.Graph, matmul: ir.Node, transpose: ir.Node) -> None:
    # Stores the transposed table again: DequantizeLinear of the rows' table would run over all of it for each token.
    table = transpose.inputs[0]
    if table is None or table.const_value is None or not _is_large_weight(table, axis=1):
        return
    stored, scale = quantize_blocks(np.ascontiguousarray(table.const_value.numpy().T), 0)
    values = _weights(graph, table, stored, scale, "int8", suffix="_head")
    dequantise = _dequantise(matmul, *values, {"axis": 0, "block_size": BLOCK}, like=transpose.outputs[0])
    graph.insert_before(matmul, dequantise)
    matmul.replace_input_with(1, dequantise.outputs[0])
    graph.remove(transpose, safe=True)
    if not table.uses():
        graph.initializers.pop(table.name or "", None)


def _store_table(graph: ir.Graph, gather: ir.Node) -> None:
    # Looks rows up and then dequantises them: the other order would dequantise the whole table.
    table, ids = gather.inputs
    assert table is not None and table.const_value is not None and ids is not None
    stored, scale = _weights(graph, table, *quantize_blocks(table.const_value.numpy(), 1), "int8")
    rows = ir.node("Gather", [stored, ids], name=f"{gather.name}.rows")
    scales = ir.node("Gather", [scale, ids], name=f"{gather.name}.scales")
    for node in (rows, scales):
        node.outputs[0].name = f"{node.name}:"
    attributes = {"axis": -1, "block_size": BLOCK}
    dequantise = _dequantise(gather, rows.outputs[0], scales.outputs[0], attributes, like=gather.outputs[0])
    graph.insert_before(gather, [rows, scales, dequantise])
    gather.outputs[0].replace_all_uses_with(dequantise.outputs[0])
    graph.remove(gather, safe=True)
    if not table.uses():
        graph.initializers.pop(table.name or "", None)


def _dequantise(reader: ir.Node, stored: ir.Value, scale: ir.Value, attributes: Any, like: ir.Value) -> ir.Node:
    node = ir.node("DequantizeLinear", [stored, scale], attributes=attributes, name=f"{reader.name}.dequantise")
    node.outputs[0].name = f"{node.name}:"
    node.outputs[0].shape, node.outputs[0].type = like.shape, like.type
    return node


def _weights(
    graph: ir.Graph, weight: ir.Value, stored: Array, scale: Array, kind: str, suffix: str = ""
) -> tuple[ir.Value, ir.Value]:
    """Return initializers for the integers and the scales of a weight; the graph computes in the scales' type."""
    if kind == "int4":
        packed = ir.PackedTensor(_pack(stored), _STORED[kind], shape=ir.Shape(stored.shape))
        integers = _initializer(graph, f"{weight.name}_{kind}{suffix}", packed)
    else:
        integers = _initializer(graph, f"{weight.name}_{kind}{suffix}", stored)
    return integers, _initializer(graph, f"{weight.name}_scale{suffix}", scale.astype(_numpy(weight)))


def _pack(stored: Array) -> npt.NDArray[np.uint8]:
    """Pack two int4 in a byte, the first in the low half (ONNX, "Representation of 4-bit integers")."""
    flat = stored.ravel().astype(np.uint8) & 0xF
    return (flat[0::2] | (flat[1::2] << 4)).astype(np.uint8)


def _numpy(weight: ir.Value | None) -> Any:
    assert weight is not None and weight.const_value is not None
    return weight.const_value.dtype.numpy()


def _is_large_weight(value: ir.Value | None, axis: int | None) -> bool:
    """Return whether it is a matrix worth quantising, and, given an axis, whether BLOCK divides it."""
    if value is None or not value.is_initializer() or value.const_value is None:
        return False
    shape = value.const_value.shape.numpy()
    large = len(shape) == 2 and shape[0] * shape[1] > _QUANTIZED_ABOVE
    fills = axis is None or (large and shape[axis] % BLOCK == 0)
    return large and fills and value.const_value.dtype in (ir.DataType.FLOAT, ir.DataType.FLOAT16)


def _initializer(graph: ir.Graph, name: str, content: Array | ir.PackedTensor[Any]) -> ir.Value:
    if name in graph.initializers:
        return graph.initializers[name]
    tensor = ir.tensor(content, name=name) if isinstance(content, np.ndarray) else content
    tensor.name = name
    value = ir.Value(
        name=name, shape=ir.Shape(tensor.shape.numpy()), type=ir.TensorType(tensor.dtype), const_value=tensor
    )
    graph.initializers[name] = value
    return value
