"""Weights outside a graph's file are sealed, wherever in the graph they are named, or the graph is not loaded."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.bundle.damage import edit, refusal
from vlj_edge import VljEdgeError
from vlj_edge.bundle import read_manifest, seal, verify_bundle
from vlj_edge.bundle.graph_files import external_locations, unchanged
from vlj_edge.runtime.engines.base import open_engine

GRAPH = "text_encoder.onnx"


def external(location: str, name: str = "outside") -> onnx.TensorProto:
    """A tensor whose values are in another file."""
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), name)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("offset", "0"), ("location", location), ("length", "16")):
        tensor.external_data.add(key=key, value=value)
    return tensor


def sparse(tensor: onnx.TensorProto) -> onnx.SparseTensorProto:
    indices = numpy_helper.from_array(np.arange(4), "indices")
    return helper.make_sparse_tensor(tensor, indices, [9])


def small_graph(tensor: onnx.TensorProto) -> onnx.GraphProto:
    return helper.make_graph([], "inner", [], [], [tensor])


def constant(**attribute: object) -> onnx.NodeProto:
    return helper.make_node("Constant", [], ["c"], **attribute)


def in_function(model: onnx.ModelProto, tensor: onnx.TensorProto) -> None:
    node, opset = constant(value=tensor), [helper.make_opsetid("", 21)]
    model.functions.append(helper.make_function("own", "f", [], ["c"], [node], opset))


def in_default_of_function(model: onnx.ModelProto, tensor: onnx.TensorProto) -> None:
    function = helper.make_function("own", "f", [], ["c"], [constant(value_int=1)], [helper.make_opsetid("", 21)])
    function.attribute_proto.append(helper.make_attribute("a", tensor))
    model.functions.append(function)


def in_subgraph(model: onnx.ModelProto, tensor: onnx.TensorProto) -> None:
    deep = helper.make_graph([helper.make_node("If", ["x"], ["y"], then_branch=small_graph(tensor))], "g", [], [])
    model.graph.node.append(helper.make_node("If", ["x"], ["y"], then_branch=deep))


PLACES: dict[str, Callable[[onnx.ModelProto, onnx.TensorProto], object]] = {
    "initializer": lambda model, tensor: model.graph.initializer.append(tensor),
    "sparse initializer": lambda model, tensor: model.graph.sparse_initializer.append(sparse(tensor)),
    "attribute": lambda model, tensor: model.graph.node.append(constant(value=tensor)),
    "attribute of tensors": lambda model, tensor: model.graph.node.append(constant(tensors=[tensor])),
    "sparse attribute": lambda model, tensor: model.graph.node.append(constant(sparse_value=sparse(tensor))),
    "attribute of graphs": lambda model, tensor: model.graph.node.append(constant(graphs=[small_graph(tensor)])),
    "subgraph": in_subgraph,
    "function": in_function,
    "default of a function": in_default_of_function,
    "training": lambda model, tensor: model.training_info.add().algorithm.CopyFrom(small_graph(tensor)),
}


def write(bundle: Path, place: str, location: str) -> None:
    """Put an external tensor into a sealed graph."""
    model = onnx.load(bundle / GRAPH)
    PLACES[place](model, external(location))
    (bundle / GRAPH).write_bytes(model.SerializeToString())
    sealed = asdict(seal(bundle / GRAPH))
    edit(bundle, lambda raw: raw["files"].update({GRAPH: sealed}))


def both_refuse(bundle: Path) -> str:
    """The line with which a bundle is refused, by `verify` and by every backend that reads graphs."""
    message = refusal(lambda: verify_bundle(bundle))
    for backend in ("onnxruntime", "openvino"):
        manifest = read_manifest(bundle)
        assert refusal(lambda: open_engine(bundle, manifest, "text_encoder", backend=backend)) == message  # noqa: B023
    return message


@pytest.mark.parametrize("place", PLACES)
def test_a_file_of_weights_that_is_not_sealed_is_refused(bundle: Path, place: str) -> None:
    (bundle / "engines").mkdir()
    (bundle / "engines" / "w.bin").write_bytes(bytes(16))
    write(bundle, place, "engines/w.bin")
    message = both_refuse(bundle)
    assert GRAPH in message and "engines/w.bin" in message


@pytest.mark.parametrize(
    "location",
    ["../w.bin", "/etc/passwd", "engines/../w.bin", "./w.bin", "", "engines", "..\\w.bin", "C:w.bin", "w.bin\n",
     "\x1b[2J", "w.bin\x00", "*/_ORT_MEM_ADDR_/*", "x" * 5000],
    ids=ascii,
)  # fmt: skip
def test_a_location_outside_the_bundle_is_refused(bundle: Path, location: str) -> None:
    (bundle / "engines").mkdir()
    for folder in (bundle, bundle.parent):
        (folder / "w.bin").write_bytes(bytes(16))
    sealed = asdict(seal(bundle / "w.bin"))
    edit(bundle, lambda raw: raw["files"].update({"w.bin": sealed}))
    write(bundle, "attribute", location)
    assert GRAPH in both_refuse(bundle)


def test_an_address_in_memory_is_no_file_even_if_it_is_sealed(bundle: Path) -> None:
    name = "*/_ORT_MEM_ADDR_/*"
    (bundle / name).parent.mkdir(parents=True)
    (bundle / name).write_bytes(bytes(16))
    sealed = asdict(seal(bundle / name))
    edit(bundle, lambda raw: raw["files"].update({name: sealed}))
    write(bundle, "initializer", name)
    assert GRAPH in both_refuse(bundle)


@pytest.mark.parametrize("harm", ["changed", "linked", "missing"])
def test_sealed_weights_must_be_those_that_were_sealed(bundle: Path, harm: str) -> None:
    weights = bundle / "w.bin"
    weights.write_bytes(bytes(16))
    sealed = asdict(seal(weights))
    edit(bundle, lambda raw: raw["files"].update({"w.bin": sealed}))
    write(bundle, "initializer", "w.bin")
    verify_bundle(bundle)
    if harm == "changed":
        weights.write_bytes(b"\1" * 16)
    elif harm == "linked":
        weights.rename(bundle.parent / "w.bin")
        weights.symlink_to(bundle.parent / "w.bin")
    else:
        weights.unlink()
    assert str(weights) in both_refuse(bundle)


def test_the_last_of_two_keys_counts_and_so_does_the_first(tmp_path: Path) -> None:
    model = helper.make_model(small_graph(external("a.bin")))
    entry = model.graph.initializer[0].external_data[1]
    raw = model.SerializeToString()
    twice = onnx.StringStringEntryProto(key="offset", value="b.bin").SerializeToString() + entry.SerializeToString()
    one, two = entry.SerializeToString(), onnx.StringStringEntryProto(key="location", value="b.bin").SerializeToString()
    assert raw.count(one) == 1
    tensor = model.graph.initializer[0].SerializeToString() + b"\x6a" + bytes([len(twice + two)]) + twice + two
    graph = b"\x2a" + bytes([len(tensor)]) + tensor
    (tmp_path / "g.onnx").write_bytes(b"\x3a" + bytes([len(graph) % 128 | 128, len(graph) // 128]) + graph)
    assert (
        onnx.load(tmp_path / "g.onnx", load_external_data=False).graph.initializer[0].external_data[-1].value == "b.bin"
    )
    assert external_locations(tmp_path / "g.onnx") == ["a.bin", "b.bin"]


@pytest.mark.parametrize("name", ["text_encoder.ort", "text_encoder.xml", "text_encoder"])
def test_a_graph_is_an_onnx_file_by_its_name(bundle: Path, name: str) -> None:
    """Readers go by the suffix, and other formats name files in other ways."""
    (bundle / GRAPH).rename(bundle / name)

    def rename(raw: dict) -> None:  # type: ignore[type-arg]
        raw["files"][name] = raw["files"].pop(GRAPH)
        raw["engines"]["text_encoder"]["file"] = name

    edit(bundle, rename)
    assert name in both_refuse(bundle)


@pytest.mark.parametrize(
    "content", [b"", b"\x3a", b"\x3a\x7f\0", b"\x3c\x3f", b"\x08" + b"\xff" * 12, b"<net/>", b"\x08\x0a", bytes(99)]
)
def test_what_is_no_graph_is_refused(bundle: Path, content: bytes) -> None:
    (bundle / GRAPH).write_bytes(content)
    sealed = asdict(seal(bundle / GRAPH))
    edit(bundle, lambda raw: raw["files"].update({GRAPH: sealed}))
    assert str(bundle / GRAPH) in both_refuse(bundle)


def test_graphs_within_graphs_without_end_are_refused(tmp_path: Path) -> None:
    content = b""
    for _ in range(300):
        for field in (6 << 3 | 2, 5 << 3 | 2, 1 << 3 | 2):  # attribute.g, node.attribute, graph.node
            size = len(content)
            content = bytes([field, size % 128 | 128, size // 128 % 128 | 128, size // 16384]) + content
    (tmp_path / "deep.onnx").write_bytes(b"\x3a" + bytes([len(content) % 128 | 128, len(content) // 128]) + content)
    with pytest.raises(ValueError, match="deep"):
        external_locations(tmp_path / "deep.onnx")


@pytest.mark.parametrize("replaced", [False, True])
def test_a_file_that_changes_between_hash_and_load_is_refused(bundle: Path, replaced: bool) -> None:
    path = bundle / GRAPH
    with pytest.raises(VljEdgeError, match=r"text_encoder\.onnx changed"), unchanged(bundle, [GRAPH]):
        content = path.read_bytes()
        if replaced:
            (bundle / "new").write_bytes(content)
            os.replace(bundle / "new", path)
        else:
            path.write_bytes(content)


def test_a_graph_that_is_swapped_while_it_is_loaded_gives_no_engine(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    load = onnxruntime.InferenceSession

    def swap(path: str, *arguments: object, **more: object) -> object:
        (bundle / "new").write_bytes((bundle / GRAPH).read_bytes())
        os.replace(bundle / "new", path)
        return load(path, *arguments, **more)

    monkeypatch.setattr(onnxruntime, "InferenceSession", swap)
    manifest = read_manifest(bundle)
    assert GRAPH in refusal(lambda: open_engine(bundle, manifest, "text_encoder"))
