"""Emulate a bf16 graph on a machine without bf16: the same nodes in fp32, each result rounded to bf16."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir

from .graph import save


def emulate_bf16(path: Path, out: Path) -> None:
    """Write the graph at `path` to `out` so that ONNX Runtime's CPU provider, which has no bf16 operators, runs it.

    Like a GPU, it sums products in fp32 and rounds the result: each operator is fp32, then a Cast to bf16 and back.
    """
    model = ir.load(path)
    graph = model.graph
    for value in [*graph.inputs, *graph.initializers.values()]:
        if value.dtype == ir.DataType.BFLOAT16:
            value.type = ir.TensorType(ir.DataType.FLOAT)
            if value.const_value is not None:
                numbers = value.const_value.numpy().astype(np.float32)
                value.const_value = ir.tensor(numbers, name=value.name)
    for node in list(graph):
        to = node.attributes.get("to")
        if node.op_type == "Cast" and to is not None and to.as_int() == ir.DataType.BFLOAT16:
            node.attributes["to"] = ir.AttrInt64("to", ir.DataType.FLOAT)
        for output in node.outputs:
            if output.dtype == ir.DataType.BFLOAT16:
                output.type = ir.TensorType(ir.DataType.FLOAT)
                _round(graph, node, output)
    save(model, out)


def _round(graph: ir.Graph, node: ir.Node, output: ir.Value) -> None:
    down = ir.node("Cast", [output], attributes={"to": ir.DataType.BFLOAT16}, name=f"{output.name}.down")
    up = ir.node("Cast", [down.outputs[0]], attributes={"to": ir.DataType.FLOAT}, name=f"{output.name}.up")
    down.outputs[0].name, up.outputs[0].name = f"{down.name}:", f"{up.name}:"
    up.outputs[0].type, up.outputs[0].shape = ir.TensorType(ir.DataType.FLOAT), output.shape
    if output.is_graph_output():
        up.outputs[0].name, output.name = output.name, f"{output.name}.exact"
        graph.outputs[list(graph.outputs).index(output)] = up.outputs[0]
    output.replace_all_uses_with(up.outputs[0])
    down.replace_input_with(0, output)
    graph.insert_after(node, [down, up])
