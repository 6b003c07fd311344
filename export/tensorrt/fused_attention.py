"""This project's attention inside TensorRT engines: quick-deployable plugins, compiled ahead (from TensorRT 10.9).

What aot_impl hands over, the kernel's PTX, TensorRT puts into the engine, which then runs without Python and without a
plugin library. TensorRT-RTX and TensorRT 10.3 (JetPack 6) have no such interface. Its rules are in NVIDIA's own
tensorrt/plugin/{_lib,_validate,_plugin_class,_tensor}.py, read in 10.13.3 and 11.4.0.
"""

from __future__ import annotations

import importlib
import re
from contextlib import suppress
from typing import Any

import numpy as np

from vlj_edge.bundle import EngineSpec
from vlj_edge.cuda import cubins, kernels
from vlj_edge.errors import VljEdgeError
from vlj_edge.tensorrt_package import TensorRtPackage

from ..onnx.plugins import AXES, DOMAIN, HALVES, Plugin, launch
from .network import quiet

# nvcc 13 writes .version 9.0, which what comes with CUDA 12 (TensorRT 10.9 to 10.12) does not read. The code needs no
# more than this: ptxas makes the same bytes of both (tests/export/tensorrt/test_fused_attention.py).
_PTX_VERSION = "7.0"
_DTYPES = {"HALF": "float16", "BF16": "bfloat16"}
_TYPES = {"HALF": "FP16", "BF16": "BF16"}  # as AutoTuneCombination spells them
# A list of int32, as an annotation. Not NDArray: TensorRT 10.13 looks for ndarray in it, which newer NumPy hides.
_LIST = np.ndarray[Any, np.dtype[np.int32]]
_ENTRY = re.compile(r"(?=^\.visible \.entry )", re.MULTILINE)

# TensorRT's registry is the process's and takes a name once: what is built for is looked up when a kernel is wanted.
_building_for: dict[str, str] = {}


def register(trt: TensorRtPackage, spec: EngineSpec, sm: str) -> None:
    """Make the plugins of an engine's graph known to TensorRT, before the graph is parsed. May be called again.

    Raises:
        VljEdgeError: this TensorRT has no such plugins, the graph wants one that this version does not have, or there
            is no code for the card.
    """
    unknown = set(spec.plugins) - {AXES.name, HALVES.name}
    if unknown:
        raise VljEdgeError(f"{spec.file} wants {', '.join(sorted(unknown))}, which this vlj-edge has not: upgrade it")
    interface = _interface(trt)
    cubins.ptx("attention", sm)  # raises
    if spec.precision.endswith("bf16"):
        kernels.check_dtype("bfloat16", sm)
    for plugin in (AXES, HALVES):
        if not _is_registered(interface, plugin):
            _register(interface, plugin)
    _building_for["sm"] = sm


def one_kernel(ptx: str, name: str) -> str:
    """The PTX of one kernel out of a source's: an engine holds it once a layer, and nobody wants 23 others with it.

    Raises:
        VljEdgeError: the kernel is not in it.
    """
    head, *entries = _ENTRY.split(ptx)
    target = re.search(r"^\.target \S+$", head, re.MULTILINE)
    body = next((entry for entry in entries if entry.startswith(f".visible .entry {name}(")), None)
    if body is None or target is None:
        raise VljEdgeError(f"{cubins.ARCHIVE} has no {name}: install vlj-edge again")
    return f".version {_PTX_VERSION}\n{target.group()}\n.address_size 64\n\n{body}"


def _interface(trt: TensorRtPackage) -> Any:
    """The module tensorrt.plugin, where it can compile ahead."""
    found = None
    if trt.package == "tensorrt":  # TensorRT-RTX has none
        with suppress(ImportError), quiet():  # it warns that it is experimental
            found = importlib.import_module("tensorrt.plugin")
    if not all(hasattr(found, name) for name in ("register", "autotune", "aot_impl", "KernelLaunchParams")):
        raise VljEdgeError(
            f"{trt.package} {trt.version} takes no kernels of others (TensorRT does from 10.9): export the bundle with"
            " --flavour native"
        )
    return found


def _is_registered(interface: Any, plugin: Plugin) -> bool:
    return hasattr(getattr(interface.op, DOMAIN, None), plugin.name)


def _register(interface: Any, plugin: Plugin) -> None:
    """Three functions a plugin. TensorRT reads their parameters' names, and their annotations as classes."""
    tensor, outputs = interface.TensorDesc, tuple[interface.TensorDesc]
    attributes = dict.fromkeys(plugin.attributes, _LIST)
    inputs = dict.fromkeys(plugin.inputs, tensor)
    described, tuned, compiled = _axes(interface) if plugin is AXES else _halves(interface)
    described.__annotations__ = {**inputs, **attributes, "return": tensor}
    tuned.__annotations__ = {**inputs, "outputs": outputs, "return": list[interface.AutoTuneCombination]}
    returned = tuple[bytes, bytes, interface.KernelLaunchParams, interface.SymIntExprs]
    compiled.__annotations__ = {**inputs, **attributes, "outputs": outputs, "tactic": int, "return": returned}
    name = f"{DOMAIN}::{plugin.name}"
    interface.register(name)(described)
    interface.autotune(name)(tuned)
    interface.aot_impl(name)(compiled)


def _axes(interface: Any) -> tuple[Any, Any, Any]:
    def described(qkv, turns, heads, picture):  # type: ignore[no-untyped-def]
        return _output(qkv, heads)

    def tuned(qkv, turns, outputs):  # type: ignore[no-untyped-def]
        return _types(interface, qkv, ("FP32",))

    def compiled(qkv, turns, heads, picture, outputs, tactic):  # type: ignore[no-untyped-def]
        return _compiled(interface, AXES, qkv, heads, picture)

    return described, tuned, compiled


def _halves(interface: Any) -> tuple[Any, Any, Any]:
    def described(qkv, turns, seen, heads):  # type: ignore[no-untyped-def]
        return _output(qkv, heads)

    def tuned(qkv, turns, seen, outputs):  # type: ignore[no-untyped-def]
        return _types(interface, qkv, ("FP32", "INT32"))

    def compiled(qkv, turns, seen, heads, outputs, tactic):  # type: ignore[no-untyped-def]
        return _compiled(interface, HALVES, qkv, heads, None)

    return described, tuned, compiled


def _output(qkv: Any, heads: Any) -> Any:
    queries, keys = (int(count) for count in heads)
    output = qkv.like()
    # In symbols, since TensorRT asks for types before it knows any shape.
    output.shape_expr[2] = qkv.shape_expr[2] // (queries + 2 * keys) * queries
    return output


def _types(interface: Any, qkv: Any, others: tuple[str, ...]) -> list[Any]:
    """The network is strongly typed: of what the kernel serves, the one combination that the graph has."""
    own = _TYPES.get(qkv.dtype.name)
    if own is None:
        raise VljEdgeError(f"the attention kernel computes in fp16 and bf16, not in {qkv.dtype.name}: export it again")
    return [interface.AutoTuneCombination(", ".join((own, *others, own)), "LINEAR")]


def _compiled(interface: Any, plugin: Plugin, qkv: Any, heads: Any, picture: Any) -> tuple[bytes, bytes, Any, Any]:
    """Kernel, code, blocks and threads, and the integers between inputs and outputs in the kernel's parameters."""
    numbers = [[int(number) for number in given] for given in (heads, () if picture is None else picture)]
    started = launch(plugin, _DTYPES[qkv.dtype.name], [int(n) for n in qkv.shape], numbers[0], numbers[1] or None)
    code = one_kernel(cubins.ptx("attention", _building_for["sm"]), started.name)
    how = interface.KernelLaunchParams()
    how.grid_x, how.grid_y, how.grid_z = started.grid
    how.block_x, how.shared_mem = started.threads, 0  # all shared memory is static
    integers = interface.SymIntExprs.from_tuple([interface.SymInt32(number) for number in started.integers])
    return started.name.encode(), code.encode(), how, integers
