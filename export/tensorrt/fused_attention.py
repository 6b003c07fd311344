"""This project's attention kernel as TensorRT plugins, through tensorrt.plugin and its ahead-of-time (AOT) interface.

TensorRT stores the PTX that aot_impl returns in the engine, which then runs without Python and without a plugin
library. The interface exists from TensorRT 10.9; TensorRT-RTX and TensorRT 10.3 (JetPack 6) do not have it. Its rules
are those of NVIDIA's tensorrt/plugin/{_lib,_validate,_plugin_class,_tensor}.py, versions 10.13.3 and 11.4.0.
"""

from __future__ import annotations

import importlib
import re
from contextlib import suppress
from typing import Any

import numpy as np

from vlj_edge.bundle import EngineSpec
from vlj_edge.cuda import cubins
from vlj_edge.cuda.launch import check_dtype
from vlj_edge.errors import VljEdgeError
from vlj_edge.tensorrt_package import TensorRtPackage

from ..onnx.plugins import AXES, DOMAIN, HALVES, Plugin, launch
from .network import quiet

# nvcc 13 writes ".version 9.0", which the compiler in TensorRT 10.9 to 10.12 (CUDA 12) rejects. The kernels need only
# this version: ptxas makes the same code of both (tests/export/tensorrt/test_fused_attention.py).
_PTX_VERSION = "7.0"
_DTYPES = {"HALF": "float16", "BF16": "bfloat16"}
_COMBINATION_TYPES = {"HALF": "FP16", "BF16": "BF16"}  # names of the types in AutoTuneCombination
# The annotation of an int32 list. Not NDArray: TensorRT 10.13 searches the annotation for "ndarray", which NDArray no
# longer shows in newer NumPy.
_INT32_LIST = np.ndarray[Any, np.dtype[np.int32]]
_ENTRY = re.compile(r"(?=^\.visible \.entry )", re.MULTILINE)

# TensorRT's registry is global and accepts each name once, so the GPU that an engine is built for is kept here and read
# when TensorRT asks for the kernel.
_target: dict[str, str] = {}


def register(trt: TensorRtPackage, spec: EngineSpec, sm: str) -> None:
    """Register the plugins with TensorRT, before an engine's graph is parsed. May be called again, for another GPU.

    Args:
        spec: of the engine.
        sm: compute capability of the GPU that the engine is built for, such as "sm86".

    Raises:
        VljEdgeError: this TensorRT has no AOT plugins, the graph needs a plugin that this version of vlj-edge does not
            have, or the kernel does not run on the GPU.
    """
    unknown = set(spec.plugins) - {AXES.name, HALVES.name}
    if unknown:
        raise VljEdgeError(f"{spec.file} needs {', '.join(sorted(unknown))}, which this vlj-edge lacks: upgrade it")
    interface = _interface(trt)
    cubins.ptx("attention", sm)  # raises if there is none for this GPU
    if spec.precision.endswith("bf16"):
        check_dtype("bfloat16", sm)
    for plugin in (AXES, HALVES):
        if not _is_registered(interface, plugin):
            _register(interface, plugin)
    _target["sm"] = sm


def one_kernel(ptx: str, name: str) -> str:
    """Return the PTX of a single kernel: an engine stores it once per layer, without the source's other kernels.

    Args:
        ptx: of a whole source.
        name: of the kernel.

    Raises:
        VljEdgeError: the PTX does not contain the kernel.
    """
    head, *entries = _ENTRY.split(ptx)
    target = re.search(r"^\.target \S+$", head, re.MULTILINE)
    body = next((entry for entry in entries if entry.startswith(f".visible .entry {name}(")), None)
    if body is None or target is None:
        raise VljEdgeError(f"{cubins.ARCHIVE} does not contain {name}: install vlj-edge again")
    return f".version {_PTX_VERSION}\n{target.group()}\n.address_size 64\n\n{body}"


def _interface(trt: TensorRtPackage) -> Any:
    """Return the module tensorrt.plugin, if it has the AOT interface."""
    found = None
    if trt.package == "tensorrt":  # TensorRT-RTX has none
        with suppress(ImportError), quiet():  # importing it logs a warning that it is experimental
            found = importlib.import_module("tensorrt.plugin")
    if not all(hasattr(found, name) for name in ("register", "autotune", "aot_impl", "KernelLaunchParams")):
        raise VljEdgeError(
            f"{trt.package} {trt.version} has no AOT plugins (TensorRT has them from 10.9): export the bundle with"
            " --flavour native"
        )
    return found


def _is_registered(interface: Any, plugin: Plugin) -> bool:
    return hasattr(getattr(interface.op, DOMAIN, None), plugin.name)


def _register(interface: Any, plugin: Plugin) -> None:
    """Register the three functions of a plugin: output shape, types, kernel. TensorRT reads the names
    and the annotations of their parameters; it needs classes, where this module's own annotations are strings."""
    tensor, outputs = interface.TensorDesc, tuple[interface.TensorDesc]
    attributes = dict.fromkeys(plugin.attributes, _INT32_LIST)
    inputs = dict.fromkeys(plugin.inputs, tensor)
    describe, autotune, compile_ahead = _axes(interface) if plugin is AXES else _halves(interface)
    describe.__annotations__ = {**inputs, **attributes, "return": tensor}
    autotune.__annotations__ = {**inputs, "outputs": outputs, "return": list[interface.AutoTuneCombination]}
    returned = tuple[bytes, bytes, interface.KernelLaunchParams, interface.SymIntExprs]
    compile_ahead.__annotations__ = {**inputs, **attributes, "outputs": outputs, "tactic": int, "return": returned}
    name = f"{DOMAIN}::{plugin.name}"
    interface.register(name)(describe)
    interface.autotune(name)(autotune)
    interface.aot_impl(name)(compile_ahead)


def _axes(interface: Any) -> tuple[Any, Any, Any]:
    def describe(qkv, rotary, heads, picture):  # type: ignore[no-untyped-def]
        return _output(qkv, heads)

    def autotune(qkv, rotary, outputs):  # type: ignore[no-untyped-def]
        return _types(interface, qkv, ("FP32",))

    def compile_ahead(qkv, rotary, heads, picture, outputs, tactic):  # type: ignore[no-untyped-def]
        return _compiled(interface, AXES, qkv, heads, picture)

    return describe, autotune, compile_ahead


def _halves(interface: Any) -> tuple[Any, Any, Any]:
    def describe(qkv, rotary, key_mask, heads):  # type: ignore[no-untyped-def]
        return _output(qkv, heads)

    def autotune(qkv, rotary, key_mask, outputs):  # type: ignore[no-untyped-def]
        return _types(interface, qkv, ("FP32", "INT32"))

    def compile_ahead(qkv, rotary, key_mask, heads, outputs, tactic):  # type: ignore[no-untyped-def]
        return _compiled(interface, HALVES, qkv, heads, None)

    return describe, autotune, compile_ahead


def _output(qkv: Any, heads: Any) -> Any:
    queries, keys = (int(count) for count in heads)
    output = qkv.like()
    # Symbolic, because TensorRT asks for this before shapes are known.
    output.shape_expr[2] = qkv.shape_expr[2] // (queries + 2 * keys) * queries
    return output


def _types(interface: Any, qkv: Any, others: tuple[str, ...]) -> list[Any]:
    """Return the one combination of input and output types that the graph has: the network is strongly typed."""
    own = _COMBINATION_TYPES.get(qkv.dtype.name)
    if own is None:
        raise VljEdgeError(
            f"the attention kernel computes in fp16 and bf16, not in {qkv.dtype.name}: export with --precision fp16"
        )
    return [interface.AutoTuneCombination(", ".join((own, *others, own)), "LINEAR")]


def _compiled(interface: Any, plugin: Plugin, qkv: Any, heads: Any, picture: Any) -> tuple[bytes, bytes, Any, Any]:
    """Return the kernel's name, its PTX, its grid and block, and its integer arguments."""
    head_counts = [int(count) for count in heads]
    grid = None if picture is None else [int(count) for count in picture]
    kernel = launch(plugin, _DTYPES[qkv.dtype.name], [int(size) for size in qkv.shape], head_counts, grid)
    code = one_kernel(cubins.ptx("attention", _target["sm"]), kernel.name)
    params = interface.KernelLaunchParams()
    params.grid_x, params.grid_y, params.grid_z = kernel.grid
    params.block_x, params.shared_mem = kernel.threads, 0  # all shared memory is static
    integers = interface.SymIntExprs.from_tuple([interface.SymInt32(number) for number in kernel.integers])
    return kernel.name.encode(), code.encode(), params, integers
