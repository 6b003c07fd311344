"""Weights in 8 bits that a graph unpacks with Cast, as things does: their values take their place for TensorRT."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from vlj_edge.export.tensorrt.int8_blocks import without_int8_blocks

_RNG = np.random.default_rng(0)
_WEIGHTS = {"matrix": _RNG.integers(-127, 128, (6, 4)), "table": _RNG.integers(0, 256, (9, 6))}
_SCALES = {"scale": _RNG.random((6, 1)), "step": np.array(0.01)}
_FLOAT = {"FLOAT": (TensorProto.FLOAT, np.float32), "FLOAT16": (TensorProto.FLOAT16, np.float16)}


def write(path: Path, kind: str, look_up: str) -> None:
    """rows = table[ids] * step; result = rows @ (matrix * scale)."""
    to, dtype = _FLOAT[kind]
    nodes = [
        helper.make_node(look_up, ["table", "ids"], ["rows"]),
        helper.make_node("Cast", ["rows"], ["rows_cast"], to=to),
        helper.make_node("Mul", ["rows_cast", "step"], ["values"]),
        helper.make_node("Cast", ["matrix"], ["matrix_cast"], to=to),
        helper.make_node("Mul", ["matrix_cast", "scale"], ["weight"]),
        helper.make_node("MatMul", ["values", "weight"], ["result"]),
        helper.make_node("Cast", ["result"], ["out"], to=TensorProto.FLOAT),
    ]
    types = {"matrix": np.int8, "table": np.uint8}
    stored = [numpy_helper.from_array(each.astype(types[name]), name) for name, each in _WEIGHTS.items()]
    stored += [numpy_helper.from_array(each.astype(dtype), name) for name, each in _SCALES.items()]
    shape = [3] if look_up == "Gather" else [3, 1]
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, shape)
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, [3, 4])
    graph = helper.make_graph(nodes, "unpacks", [ids], [out], stored)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)


@pytest.mark.parametrize("look_up", ["Gather", "GatherND"])
@pytest.mark.parametrize("kind", _FLOAT)
def test_cast_weights_compute_what_the_graph_does(tmp_path: Path, kind: str, look_up: str) -> None:
    path, scratch = tmp_path / "unpacks.onnx", tmp_path / "scratch"
    scratch.mkdir()
    write(path, kind, look_up)
    copy, count = without_int8_blocks(path, scratch)
    assert (copy.parent, count) == (scratch, 2)
    graph = onnx.load(copy).graph
    onnx.checker.check_model(onnx.load(copy))
    assert not any(each.data_type in (TensorProto.INT8, TensorProto.UINT8) for each in graph.initializer)
    assert [node.op_type for node in graph.node] == [look_up, "Mul", "Mul", "MatMul", "Cast"]
    feed: dict[str, Any] = {"ids": np.array([0, 8, 4]).reshape([3] if look_up == "Gather" else [3, 1])}
    before, after = (ort.InferenceSession(str(each)).run(None, feed)[0] for each in (path, copy))
    np.testing.assert_array_equal(before, after)
    assert without_int8_blocks(copy, tmp_path / "nowhere") == (copy, 0)
