"""Dequantise weights that are stored in a way that TensorRT does not read, before it reads a graph.

A bundle stores tables and weight-only matrices as int8 with a scale for every 32 values (export/onnx/quantize.py).
TensorRT 10.3 to 11 and TensorRT-RTX support int8 by tensor or column alone ("ScaleMode is illegal"), no Gather from an
int8 table, and no Cast of weights in 8 bits, with which `things` unpacks its own. With floating-point weights the
engine is larger, and its results are those of the bundle's graph.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vlj_edge.errors import require

if TYPE_CHECKING:
    import numpy.typing as npt

_INT8, _EIGHT_BITS = 3, (2, 3)  # TensorProto.INT8; UINT8, too
_LOOK_UPS = ("Gather", "GatherND")
_MAX_BYTES = 2**31 - 2**24  # protobuf holds less than 2 GiB


def has_int8_blocks(model: Any) -> bool:
    """Return whether a ModelProto, whose weights need not be loaded, has weights that are int8 in blocks, or cast."""
    if any(_blocked(node) for node in model.graph.node) and _names(model, _INT8):
        return True
    stored = _names(model, *_EIGHT_BITS)
    looked_up = {node.output[0] for node in model.graph.node if node.op_type in _LOOK_UPS and node.input[0] in stored}
    return any(node.op_type == "Cast" and node.input[0] in stored | looked_up for node in model.graph.node)


def without_int8_blocks(path: Path, scratch: Path) -> tuple[Path, int]:
    """Return an ONNX file without int8 blocks, and the number of weights that were: `path`, or a copy in `scratch`.

    Raises:
        VljEdgeError: the package onnx is not installed.
    """
    onnx = require("onnx", "tensorrt")
    if not has_int8_blocks(onnx.load(path, load_external_data=False)):
        return path, 0
    model = onnx.load(path)
    count = _dequantise_blocks(model, onnx) + _cast_weights(model, onnx)
    _remove_unused(model.graph)
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
    return folded


def _cast_weights(model: Any, onnx: Any) -> int:
    """Replace each Cast of 8-bit weights, or of rows that are looked up in them, by its values; return their number."""
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer if tensor.data_type in _EIGHT_BITS}
    producers = {output: node for node in graph.node for output in node.output}
    cast = 0
    for node in [node for node in graph.node if node.op_type == "Cast"]:
        look_up = producers.get(node.input[0])
        stored = node.input[0] if look_up is None or look_up.op_type not in _LOOK_UPS else look_up.input[0]
        if stored not in weights:
            continue
        dtype = onnx.helper.tensor_dtype_to_np_dtype(node.attribute[0].i)
        name = node.output[0] if look_up is None else f"{node.output[0]}_values"
        values = onnx.numpy_helper.to_array(weights[stored]).astype(dtype)
        graph.initializer.append(onnx.numpy_helper.from_array(values, name))
        if look_up is not None:
            rows = onnx.helper.make_node(look_up.op_type, [name, look_up.input[1]], [node.output[0]])
            rows.attribute.extend(look_up.attribute)
            graph.node.insert(list(graph.node).index(node), rows)
        graph.node.remove(node)
        cast += 1
    return cast


def _remove_unused(graph: Any) -> None:
    """Remove look-ups and weights that nothing reads any more."""
    used = {name for node in graph.node for name in node.input} | {output.name for output in graph.output}
    for node in [node for node in graph.node if node.op_type in _LOOK_UPS and node.output[0] not in used]:
        graph.node.remove(node)
    used = {name for node in graph.node for name in node.input} | {output.name for output in graph.output}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _values(onnx: Any, stored: Any, scale: Any) -> npt.NDArray[Any]:
    """Return integers times their block's scale, rounded once, as DequantizeLinear does."""
    integers, scales = onnx.numpy_helper.to_array(stored), onnx.numpy_helper.to_array(scale)
    for axis in range(integers.ndim):
        scales = np.repeat(scales, integers.shape[axis] // scales.shape[axis], axis=axis)
    values: npt.NDArray[Any] = (integers.astype(np.float32) * scales.astype(np.float32)).astype(scales.dtype)
    return values


def _blocked(node: Any) -> bool:
    return node.op_type == "DequantizeLinear" and any(a.name == "block_size" and a.i > 0 for a in node.attribute)


def _names(model: Any, *types: int) -> set[str]:
    return {tensor.name for tensor in model.graph.initializer if tensor.data_type in types}


def _looks_up_int8(node: Any, weights: dict[str, Any], onnx: Any) -> bool:
    table = weights.get(node.input[0]) if node.op_type == "Gather" else None
    return table is not None and table.data_type == onnx.TensorProto.INT8
