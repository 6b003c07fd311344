"""Dequantise weights that are int8 in blocks before TensorRT reads a graph.

A bundle stores tables and weight-only matrices as int8 with a scale for every 32 values (export/onnx/quantize.py).
TensorRT 10.3 to 11 and TensorRT-RTX support int8 by tensor or column alone ("ScaleMode is illegal"), and no Gather from
an int8 table. With floating-point weights the engine is larger, and its results are those of the bundle's graph.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vlj_edge.errors import require

if TYPE_CHECKING:
    import numpy.typing as npt

_MAX_BYTES = 2**31 - 2**24  # protobuf holds less than 2 GiB


def has_int8_blocks(model: Any) -> bool:
    """Return whether a ModelProto, whose weights need not be loaded, has weights that are int8 in blocks."""
    return any(_blocked(node) for node in model.graph.node) and bool(_int8_names(model))


def without_int8_blocks(path: Path, scratch: Path) -> tuple[Path, int]:
    """Return an ONNX file without int8 blocks, and the number of weights that were: `path`, or a copy in `scratch`.

    Raises:
        VljEdgeError: the package onnx is not installed.
    """
    onnx = require("onnx", "tensorrt")
    if not has_int8_blocks(onnx.load(path, load_external_data=False)):
        return path, 0
    model = onnx.load(path)
    count = _dequantise_blocks(model, onnx)
    copy = scratch / path.name
    large = model.ByteSize() > _MAX_BYTES
    onnx.save(model, copy, save_as_external_data=large, location=f"{path.name}.data" if large else None)
    return copy, count


def _dequantise_blocks(model: Any, onnx: Any) -> int:
    """Replace each DequantizeLinear of int8 blocks by its values; return the number of them."""
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    producers = {output: node for node in graph.node for output in node.output}
    folded = 0
    for node in list(graph.node):
        if not _blocked(node):
            continue
        stored, scale = node.input[:2]
        if stored in weights and weights[stored].data_type == onnx.TensorProto.INT8:
            table = _values(onnx, weights[stored], weights[scale])
            graph.initializer.append(onnx.numpy_helper.from_array(table, node.output[0]))
            graph.node.remove(node)
        elif stored in producers and _looks_up_int8(producers[stored], weights, onnx):
            rows, scales = producers[stored], producers[scale]
            name = f"{rows.input[0]}_values"
            table = _values(onnx, weights[rows.input[0]], weights[scales.input[0]])
            graph.initializer.append(onnx.numpy_helper.from_array(table, name))
            lookup = onnx.helper.make_node("Gather", [name, rows.input[1]], [node.output[0]], rows.name)
            place = list(graph.node).index(node)
            graph.node.remove(node)
            graph.node.insert(place, lookup)
            graph.node.remove(rows)
            graph.node.remove(scales)
        else:
            continue  # int4, which TensorRT supports
        folded += 1
    used = {name for node in graph.node for name in node.input} | {output.name for output in graph.output}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    return folded


def _values(onnx: Any, stored: Any, scale: Any) -> npt.NDArray[Any]:
    """Return integers times their block's scale, rounded once, as DequantizeLinear does."""
    integers, scales = onnx.numpy_helper.to_array(stored), onnx.numpy_helper.to_array(scale)
    for axis in range(integers.ndim):
        scales = np.repeat(scales, integers.shape[axis] // scales.shape[axis], axis=axis)
    values: npt.NDArray[Any] = (integers.astype(np.float32) * scales.astype(np.float32)).astype(scales.dtype)
    return values


def _blocked(node: Any) -> bool:
    return node.op_type == "DequantizeLinear" and any(a.name == "block_size" and a.i > 0 for a in node.attribute)


def _int8_names(model: Any) -> set[str]:
    return {tensor.name for tensor in model.graph.initializer if tensor.data_type == 3}  # TensorProto.INT8


def _looks_up_int8(node: Any, weights: dict[str, Any], onnx: Any) -> bool:
    table = weights.get(node.input[0]) if node.op_type == "Gather" else None
    return table is not None and table.data_type == onnx.TensorProto.INT8
