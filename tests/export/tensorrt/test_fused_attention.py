"""The plugins of the fused flavour as TensorRT's own Python takes them (fake_tensorrt.py says what is not TensorRT)."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import types
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx_ir as ir
import pytest

from tests.export.models.test_fused import exported, model, sized
from tests.export.tensorrt import fake_tensorrt
from vlj_edge.bundle import EngineSpec
from vlj_edge.cuda import cubins, kernels
from vlj_edge.errors import VljEdgeError
from vlj_edge.export.onnx import plugins
from vlj_edge.export.tensorrt.fused_attention import one_kernel, register
from vlj_edge.export.tensorrt.network import Network, check, plugin_layers
from vlj_edge.tensorrt_package import TensorRtPackage

SPEC = EngineSpec("predictor.onnx", "fp16", 23, (), (), plugins=(plugins.HALVES.name,))
NAMES = {"float16": "HALF", "bfloat16": "BF16", "float32": "FLOAT", "int32": "INT32"}


@pytest.fixture
def tensorrt() -> Iterator[Any]:
    found = importlib.util.find_spec("tensorrt_bindings")  # nothing is imported: its library is not there
    if found is None or found.origin is None:
        pytest.skip("tensorrt-cu13-bindings, whose Python this runs, is not installed")
    with fake_tensorrt.installed(Path(found.origin).parent) as module:
        yield module


def our_nodes(name: str, precision: str, head_dim: int) -> tuple[EngineSpec, list[Any], dict[str, Any]]:
    """The nodes of a small engine, and shape and type of every value."""
    preset = sized(head_dim)
    graph = exported(model(preset), preset, name, precision, "fused")
    values = {
        value.name: (tuple(value.shape.numpy()), NAMES[value.dtype.numpy().name])
        for node in graph.model.graph
        if node.domain == plugins.DOMAIN
        for value in (*node.inputs, *node.outputs)
    }
    nodes = [node for node in ir.to_proto(graph.model).graph.node if node.domain == plugins.DOMAIN]
    return graph.spec, nodes, values


@pytest.mark.parametrize(
    "name, precision, head_dim, sm",
    [
        ("vision_encoder", "fp16", 64, "sm87"),
        ("vision_encoder", "bf16", 32, "sm110"),
        ("predictor", "fp16", 64, "sm75"),
        ("predictor", "bf16", 128, "sm80"),
    ],
)
def test_every_node_becomes_the_kernel_with_what_it_is_started_with(
    tensorrt: Any, name: str, precision: str, head_dim: int, sm: str
) -> None:
    spec, nodes, values = our_nodes(name, precision, head_dim)
    trt = TensorRtPackage(tensorrt, "tensorrt", "11.4")
    for _ in range(2):  # engines are built one after the other, and the registry takes a name once
        register(trt, spec, sm)
    assert len(nodes) == 2
    preset = sized(head_dim)
    for node in nodes:
        built = fake_tensorrt.build(tensorrt, node, [values[given] for given in node.input])
        assert (built["shape"], built["type"]) == values[node.output[0]]
        tokens = built["shape"][1]
        heads = (3, 3) if name == "vision_encoder" else (4, 2)
        how = {"batch": 1, "tokens": tokens, "heads": heads[0], "kv_heads": heads[1], "head_dim": head_dim}
        dtype = {"fp16": "float16", "bf16": "bfloat16"}[precision]
        side = preset.preprocess.crop // preset.vision.patch
        wanted = (
            kernels.attention("axes", dtype, grid=(side, side), **how)
            if name == "vision_encoder"
            else kernels.attention("halves", dtype, masked=True, **how)
        )
        assert built["kernel"] == wanted.name.encode() and built["integers"] == list(wanted.integers)
        grid = dict(zip(("grid_x", "grid_y", "grid_z"), wanted.grid, strict=True))
        block = {"block_x": 128, "block_y": 1, "block_z": 1, "shared_mem": 0}
        assert built["launch"] == grid | block
        code = built["code"].decode()
        assert f".target sm_{'75' if sm == 'sm75' else '80'}\n" in code and code.count(".entry") == 1
        _compile(code, wanted, sm)


def _compile(code: str, wanted: kernels.Launch, sm: str) -> None:
    """ptxas takes it; and its parameters are what TensorRT passes: inputs, integers, output."""
    declared = code.partition("(")[2].partition(")")[0].split(",")
    kinds = [line.split()[1] for line in declared]
    inputs, integers = len(wanted.inputs), len(wanted.integers)
    assert kinds == [".u64"] * inputs + [".u32"] * integers + [".u64"]
    if (ptxas := shutil.which("ptxas")) is None:
        return
    run = [ptxas, f"-arch={sm.replace('sm', 'sm_')}", "-o", "/dev/null", "/dev/stdin"]
    subprocess.run(run, input=code.encode(), check=True)


@pytest.mark.skipif(shutil.which("ptxas") is None, reason="there is no ptxas here")
def test_an_older_version_number_compiles_to_the_same_bytes(tmp_path: Path) -> None:
    for source, arch in (("sm75", "sm_75"), ("sm80", "sm_87")):
        name = "attention_halves_masked_fp16_64"
        older = one_kernel(cubins.ptx("attention", source), name)
        newer = older.replace(".version 7.0", ".version 9.0")
        assert older != newer
        made = []
        for number, code in enumerate((older, newer)):
            (tmp_path / "x.ptx").write_text(code)
            out = tmp_path / f"{number}.cubin"
            subprocess.run(["ptxas", f"-arch={arch}", "-o", out, tmp_path / "x.ptx"], check=True)
            made.append(out.read_bytes())
        assert made[0] == made[1]


def test_what_has_no_such_plugins_says_native(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = r"takes no kernels of others.*--flavour native"
    with pytest.raises(VljEdgeError, match=f"tensorrt_rtx 1.7 {wanted}"):
        register(TensorRtPackage(object(), "tensorrt_rtx", "1.7"), SPEC, "sm89")
    for name in [name for name in sys.modules if name.split(".")[0] == "tensorrt"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorrt", types.ModuleType("tensorrt"))  # 10.3: no submodule of that name
    with pytest.raises(VljEdgeError, match=f"tensorrt 10.3.0 {wanted}"):
        register(TensorRtPackage(object(), "tensorrt", "10.3.0"), SPEC, "sm87")
    early: Any = types.ModuleType("tensorrt.plugin")  # 10.7: plugins, but none compiled ahead
    early.register = early.autotune = early.impl = early.op = None
    monkeypatch.setitem(sys.modules, "tensorrt.plugin", early)
    with pytest.raises(VljEdgeError, match=f"tensorrt 10.7.0 {wanted}"):
        register(TensorRtPackage(object(), "tensorrt", "10.7.0"), SPEC, "sm87")


def test_cards_and_graphs_without_a_kernel(tensorrt: Any) -> None:
    trt = TensorRtPackage(tensorrt, "tensorrt", "11.4")
    with pytest.raises(VljEdgeError, match="not for sm72"):
        register(trt, SPEC, "sm72")
    with pytest.raises(VljEdgeError, match="sm75 has no bfloat16"):
        register(trt, replace(SPEC, precision="bf16"), "sm75")
    with pytest.raises(VljEdgeError, match=r"predictor\.onnx wants AttentionByMoon, which this vlj-edge has not"):
        register(trt, replace(SPEC, plugins=("AttentionByMoon",)), "sm80")
    with pytest.raises(VljEdgeError, match="has no attention_by_moon"):
        one_kernel(cubins.ptx("attention", "sm80"), "attention_by_moon")


def network_of(*layers: tuple[str, str]) -> Network:
    """A parsed network of (layer's type, type of its output), as far as check() looks."""
    made = [
        types.SimpleNamespace(
            name=f"layer {i}",
            type=types.SimpleNamespace(name=kind),
            get_output=lambda _, dtype=dtype: types.SimpleNamespace(dtype=types.SimpleNamespace(name=dtype)),
        )
        for i, (kind, dtype) in enumerate(layers)
    ]
    definition = types.SimpleNamespace(num_layers=len(made), get_layer=made.__getitem__, num_inputs=0, num_outputs=0)
    return Network(None, None, definition, None, None, [])


def test_a_built_network_has_our_layers_in_the_bundle_s_precision_or_is_refused() -> None:
    path = Path("predictor.onnx")
    fits = network_of(("MATRIX_MULTIPLY", "HALF"), ("PLUGIN_V3", "HALF"))
    check(fits, path, SPEC)
    assert len(plugin_layers(fits)) == 1
    with pytest.raises(VljEdgeError, match="has none of this project's kernels"):
        check(network_of(("MATRIX_MULTIPLY", "HALF")), path, SPEC)
    with pytest.raises(VljEdgeError, match="has some of this project's kernels"):
        check(fits, path, replace(SPEC, plugins=()))
    with pytest.raises(VljEdgeError, match="layer 0 would be computed in FLOAT although the bundle is fp16"):
        check(network_of(("PLUGIN_V3", "FLOAT")), path, SPEC)
