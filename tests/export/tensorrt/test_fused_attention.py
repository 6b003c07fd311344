"""The fused flavour's plugins, through TensorRT's own Python (fake_tensorrt.py says what stands in for its library)."""

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
from vlj_edge.cuda import cubins
from vlj_edge.cuda.attention import attention_launch
from vlj_edge.cuda.launch import Launch
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
        ("predictor", "bf16", 32, "sm80"),
    ],
)
def test_every_node_becomes_a_kernel_with_its_launch_parameters(
    tensorrt: Any, name: str, precision: str, head_dim: int, sm: str
) -> None:
    spec, nodes, values = our_nodes(name, precision, head_dim)
    trt = TensorRtPackage(tensorrt, "tensorrt", "11.4")
    for _ in range(2):  # as for two engines: TensorRT's registry accepts a name only once
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
            attention_launch("axes", dtype, grid=(side, side), **how)
            if name == "vision_encoder"
            else attention_launch("halves", dtype, **how)
        )
        assert built["kernel"] == wanted.name.encode() and built["integers"] == list(wanted.integers)
        grid = dict(zip(("grid_x", "grid_y", "grid_z"), wanted.grid, strict=True))
        block = {"block_x": 128, "block_y": 1, "block_z": 1, "shared_mem": 0}
        assert built["launch"] == grid | block
        code = built["code"].decode()
        assert f".target sm_{'75' if sm == 'sm75' else '80'}\n" in code and code.count(".entry") == 1
        _compile(code, wanted, sm)


def _compile(code: str, wanted: Launch, sm: str) -> None:
    """Check that ptxas compiles it and that its parameters are what TensorRT passes: inputs, integers, output."""
    declared = code.partition("(")[2].partition(")")[0].split(",")
    kinds = [line.split()[1] for line in declared]
    inputs, integers = len(wanted.input_bytes), len(wanted.integers)
    assert kinds == [".u64"] * inputs + [".u32"] * integers + [".u64"]
    if (ptxas := shutil.which("ptxas")) is None:
        return
    run = [ptxas, f"-arch={sm.replace('sm', 'sm_')}", "-o", "/dev/null", "/dev/stdin"]
    subprocess.run(run, input=code.encode(), check=True)


@pytest.mark.skipif(shutil.which("ptxas") is None, reason="there is no ptxas here")
def test_an_older_version_number_compiles_to_the_same_bytes(tmp_path: Path) -> None:
    for source, arch in (("sm75", "sm_75"), ("sm80", "sm_87")):
        name = "attention_halves_fp16_64"
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


def test_without_aot_plugins_the_error_names_the_native_flavour(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = r".*--flavour native"
    with pytest.raises(VljEdgeError, match=f"tensorrt_rtx 1.7{wanted}"):
        register(TensorRtPackage(object(), "tensorrt_rtx", "1.7"), SPEC, "sm89")
    for name in [name for name in sys.modules if name.split(".")[0] == "tensorrt"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorrt", types.ModuleType("tensorrt"))  # 10.3: no submodule of that name
    with pytest.raises(VljEdgeError, match=f"tensorrt 10.3.0{wanted}"):
        register(TensorRtPackage(object(), "tensorrt", "10.3.0"), SPEC, "sm87")
    early: Any = types.ModuleType("tensorrt.plugin")  # 10.7: plugins, but none compiled ahead
    early.register = early.autotune = early.impl = early.op = None
    monkeypatch.setitem(sys.modules, "tensorrt.plugin", early)
    with pytest.raises(VljEdgeError, match=f"tensorrt 10.7.0{wanted}"):
        register(TensorRtPackage(object(), "tensorrt", "10.7.0"), SPEC, "sm87")


def test_gpus_and_graphs_without_a_kernel(tensorrt: Any) -> None:
    trt = TensorRtPackage(tensorrt, "tensorrt", "11.4")
    with pytest.raises(VljEdgeError, match="not for sm72"):
        register(trt, SPEC, "sm72")
    with pytest.raises(VljEdgeError, match=r"sm75.*fp16"):
        register(trt, replace(SPEC, precision="bf16"), "sm75")
    with pytest.raises(VljEdgeError, match=r"predictor\.onnx .*AttentionByMoon"):
        register(trt, replace(SPEC, plugins=("AttentionByMoon",)), "sm80")
    with pytest.raises(VljEdgeError, match=r"attention_by_moon.*install vlj-edge again"):
        one_kernel(cubins.ptx("attention", "sm80"), "attention_by_moon")


def network_of(*layers: tuple[str, str]) -> Network:
    """A parsed network of layers, each (type, type of its output), as far as check() reads it."""
    fakes = [
        types.SimpleNamespace(
            name=f"layer {i}",
            type=types.SimpleNamespace(name=kind),
            get_output=lambda _, dtype=dtype: types.SimpleNamespace(dtype=types.SimpleNamespace(name=dtype)),
        )
        for i, (kind, dtype) in enumerate(layers)
    ]
    definition = types.SimpleNamespace(num_layers=len(fakes), get_layer=fakes.__getitem__, num_inputs=0, num_outputs=0)
    return Network(None, None, definition, None, None, [])


def test_a_network_without_our_layers_in_the_bundles_precision_is_an_error() -> None:
    path = Path("predictor.onnx")
    fits = network_of(("MATRIX_MULTIPLY", "HALF"), ("PLUGIN_V3", "HALF"))
    check(fits, path, SPEC)
    assert len(plugin_layers(fits)) == 1
    with pytest.raises(VljEdgeError, match="no vlj-edge kernels"):
        check(network_of(("MATRIX_MULTIPLY", "HALF")), path, SPEC)
    with pytest.raises(VljEdgeError, match="some vlj-edge kernels"):
        check(fits, path, replace(SPEC, plugins=()))
    with pytest.raises(VljEdgeError, match=r"layer 0 .*FLOAT.*fp16"):
        check(network_of(("PLUGIN_V3", "FLOAT")), path, SPEC)
