"""TensorRT has no int8 in blocks, only int8 by tensor or by column: such weights become what they are multiplied in.

A bundle stores tables and weight-only matrices as int8 with a scale for every 32 (export/onnx/quantize.py). TensorRT
10.3 to 11 and TensorRT-RTX refuse that form ("ScaleMode is illegal"), and an int8 table that is looked up in. The
engine is larger for it, and computes exactly what the bundle's graph says.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vlj_edge.errors import require

if TYPE_CHECKING:
    import numpy.typing as npt

_BIN = 2**31 - 2**24  # protobuf ends at 2 GiB


def has_int8_blocks(model: Any) -> bool:
    """Does this ModelProto (its weights need not be loaded) hold int8 in blocks?"""
    return any(_blocked(node) for node in model.graph.node) and bool(_int8_names(model))


def without_int8_blocks(path: Path, scratch: Path) -> tuple[Path, int]:
    """The ONNX file at `path`, or where it holds int8 blocks a copy without them in `scratch`; and how many it held.

    Raises:
        VljEdgeError: the package onnx is needed and not installed.
    """
    onnx = require("onnx", "tensorrt")
    if not has_int8_blocks(onnx.load(path, load_external_data=False)):
        return path, 0
    model = onnx.load(path)
    count = _fold(model, onnx)
    copy = scratch / path.name
    large = model.ByteSize() > _BIN
    onnx.save(model, copy, save_as_external_data=large, location=f"{path.name}.data" if large else None)
    return copy, count


def _fold(model: Any, onnx: Any) -> int:
    """Replace each DequantizeLinear of int8 blocks by its values; returns how many there were."""
    graph = model.graph
    held = {tensor.name: tensor for tensor in graph.initializer}
    made = {output: node for node in graph.node for output in node.output}
    folded = 0
    for node in list(graph.node):
        if not _blocked(node):
            continue
        stored, scale = node.input[:2]
        if stored in held and held[stored].data_type == onnx.TensorProto.INT8:
            table = _values(onnx, held[stored], held[scale])
            graph.initializer.append(onnx.numpy_helper.from_array(table, node.output[0]))
            graph.node.remove(node)
        elif stored in made and _looks_up_int8(made[stored], held, onnx):
            rows, scales = made[stored], made[scale]
            name = f"{rows.input[0]}_values"
            table = _values(onnx, held[rows.input[0]], held[scales.input[0]])
            graph.initializer.append(onnx.numpy_helper.from_array(table, name))
            lookup = onnx.helper.make_node("Gather", [name, rows.input[1]], [node.output[0]], rows.name)
            place = list(graph.node).index(node)
            graph.node.remove(node)
            graph.node.insert(place, lookup)
            graph.node.remove(rows)
            graph.node.remove(scales)
        else:
            continue  # int4, which TensorRT has
        folded += 1
    used = {name for node in graph.node for name in node.input} | {output.name for output in graph.output}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    return folded


def _values(onnx: Any, stored: Any, scale: Any) -> npt.NDArray[Any]:
    """Integers times their block's scale, rounded once, as DequantizeLinear does it."""
    integers, scales = onnx.numpy_helper.to_array(stored), onnx.numpy_helper.to_array(scale)
    for axis in range(integers.ndim):
        scales = np.repeat(scales, integers.shape[axis] // scales.shape[axis], axis=axis)
    values: npt.NDArray[Any] = (integers.astype(np.float32) * scales.astype(np.float32)).astype(scales.dtype)
    return values


def _blocked(node: Any) -> bool:
    return node.op_type == "DequantizeLinear" and any(a.name == "block_size" and a.i > 0 for a in node.attribute)


def _int8_names(model: Any) -> set[str]:
    return {tensor.name for tensor in model.graph.initializer if tensor.data_type == 3}  # TensorProto.INT8


def _looks_up_int8(node: Any, held: dict[str, Any], onnx: Any) -> bool:
    table = held.get(node.input[0]) if node.op_type == "Gather" else None
    return table is not None and table.data_type == onnx.TensorProto.INT8
