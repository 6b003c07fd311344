"""Export a torch module as an ONNX graph that is easy to read in Netron: fixed shapes, named inputs and outputs, nodes
and weights named after the module they come from, no stack traces inside."""

from __future__ import annotations

import logging
import re
import warnings
from collections import Counter
from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor, nn

# protobuf cannot hold 2 GiB; above this the weights go into one file beside the graph.
_EXTERNAL_ABOVE = 1 << 30
_LAYER = re.compile(r"\b(?:blocks|layers|layer)\.(\d+)[./]")


def to_onnx(
    module: nn.Module, inputs: dict[str, Any], outputs: Sequence[str], opset: int, by_tokens: Container[str] = ()
) -> ir.Model:
    """Export with the shapes of `inputs` (name -> example tensor, or list of tensors) fixed, but for axis 1 of those
    in `by_tokens`, which is the same number of tokens in all.

    `outputs` names each output tensor; `flat_names` gives the names of the input tensors.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in ("torch.onnx", "onnxscript"):  # warn that torchvision is absent and constants stay
            logging.getLogger(logger).setLevel(logging.ERROR)
        program = torch.onnx.export(
            module.eval(),
            tuple(inputs.values()),
            dynamo=True,
            opset_version=opset,
            verbose=False,
            dynamic_shapes=_dynamic_shapes(inputs, by_tokens),
        )
    assert program is not None
    model = program.model
    _name_nodes_and_weights(model.graph)
    _name_inputs_and_outputs(model.graph, flat_names(inputs), outputs)
    for node in model.graph:
        node.metadata_props.clear()
        node.doc_string = None
    for value in _values(model.graph):
        value.metadata_props.clear()
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    model.graph.doc_string = None
    model.producer_name = "vlj-edge"
    return model


def _dynamic_shapes(inputs: dict[str, Any], by_tokens: Container[str]) -> tuple[dict[int, Any] | None, ...] | None:
    tokens = torch.export.Dim("tokens", min=2)
    found = tuple({1: tokens} if name in by_tokens else None for name in inputs)
    return found if any(found) else None


def flat_names(inputs: dict[str, Any]) -> list[str]:
    """Return a name for each tensor; members of a list named "key_cache_{},value_cache_{}" are named so in turn."""
    names: list[str] = []
    for name, value in inputs.items():
        if isinstance(value, Tensor):
            names.append(name)
        else:
            patterns = name.split(",")
            names += [patterns[i % len(patterns)].format(i // len(patterns)) for i in range(len(value))]
    return names


def save(model: ir.Model, path: Path) -> list[str]:
    """Write the graph; weights above 1 GiB go to `<path>.data`. Returns the names of the files written."""
    size = sum(w.const_value.nbytes for w in model.graph.initializers.values() if w.const_value is not None)
    if size <= _EXTERNAL_ABOVE:
        ir.save(model, path)
        return [path.name]
    ir.save(model, path, external_data=f"{path.name}.data")
    return [path.name, f"{path.name}.data"]


def nodes_a_layer(model: ir.Model) -> int:
    """Return the number of nodes in the largest transformer layer, by the nodes' names ("layers.3.mlp/...")."""
    layers = (_LAYER.search(node.name or "") for node in model.graph if not (node.name or "").startswith("stem."))
    counts = Counter(found.group(1) for found in layers if found)
    return max(counts.values(), default=0)


def _values(graph: ir.Graph) -> list[ir.Value]:
    values = list(graph.inputs) + list(graph.initializers.values())
    return values + [output for node in graph for output in node.outputs]


def _name_nodes_and_weights(graph: ir.Graph) -> None:
    """Name each node "module.path/Op" and each anonymous weight after the module that reads it."""
    seen: Counter[str] = Counter()
    for node in graph:
        scopes = node.metadata_props.get("pkg.torch.onnx.name_scopes", "")
        # A printed list of module paths, from the root inwards; the last entry is the torch operation.
        path = [scope.strip(" '\"") for scope in scopes.strip("[]").split(",")]
        module = path[-2] if len(path) >= 2 else ""
        name = f"{module}/{node.op_type}" if module else node.op_type
        seen[name] += 1
        node.name = name if seen[name] == 1 else f"{name}_{seen[name]}"
        for value in node.inputs:
            if value is not None and value.is_initializer() and "." not in (value.name or ""):
                _rename_initializer(graph, value, f"{node.name}.{'weight' if node.op_type == 'MatMul' else 'constant'}")
    for node in graph:
        for i, output in enumerate(node.outputs):
            output.name = f"{node.name}:{i}" if len(node.outputs) > 1 else f"{node.name}:"


def _rename_initializer(graph: ir.Graph, value: ir.Value, name: str) -> None:
    while name in graph.initializers:
        name += "_"
    del graph.initializers[value.name]  # type: ignore[arg-type]
    value.name = name
    if value.const_value is not None:
        value.const_value.name = name
    graph.initializers[name] = value


def _name_inputs_and_outputs(graph: ir.Graph, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    assert len(graph.inputs) == len(inputs) and len(graph.outputs) == len(outputs)
    for value, name in zip([*graph.inputs, *graph.outputs], [*inputs, *outputs], strict=True):
        value.name = name
