"""A fake of TensorRT's compiled library, for tests of plugins with the real Python code of `tensorrt.plugin`.

NVIDIA's `tensorrt.plugin` is Python on top of classes of libnvinfer. The Python is that of the wheel
tensorrt-cu13-bindings, unchanged. This file replaces the library, which needs NVIDIA's packages: the base classes of
the Python ones, the plugin registry, symbolic dimensions (plain integers here), and the order in which a builder calls
a plugin. It does not show what TensorRT does with types, code and launch parameters.
"""

from __future__ import annotations

import enum
import importlib.util
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np


class Base:
    """A base class of the library."""

    def __init__(self, *arguments: Any) -> None:
        pass


def _enum(name: str, values: str) -> Any:
    return enum.Enum(name, values)


class Expression:
    """IDimensionExpr with a known value."""

    def __init__(self, value: int) -> None:
        self.value = value

    def is_constant(self) -> bool:
        return True

    def get_constant_value(self) -> int:
        return self.value


class Expressions:
    """IExprBuilder."""

    def constant(self, value: int) -> Expression:
        assert type(value) is int, "the bindings take no numpy integer"
        return Expression(value)

    def operation(self, op: Any, first: Expression, second: Expression) -> Expression:
        compute = {"SUM": int.__add__, "SUB": int.__sub__, "PROD": int.__mul__, "FLOOR_DIV": int.__floordiv__}
        return Expression(compute[op.name](first.value, second.value))


class PluginField:
    def __init__(self, name: str, data: Any, type: Any) -> None:
        self.name, self.data, self.type = name, data, type


class PluginTensorDesc:
    def __init__(self) -> None:
        self.dims: tuple[int, ...] = ()
        self.type: Any = None
        self.format: Any = None
        self.scale = -1.0


class DynamicPluginTensorDesc:
    def __init__(self, dims: tuple[int, ...], type: Any, format: Any) -> None:
        self.desc = PluginTensorDesc()
        self.desc.dims, self.desc.type, self.desc.format = dims, type, format
        self.min = self.max = self.opt = dims


class Registry:
    def __init__(self) -> None:
        self.creators: dict[tuple[str, str, str], Any] = {}

    def register_creator(self, creator: Any, namespace: str) -> None:
        self.creators[creator.name, creator.plugin_version, namespace] = creator

    def get_creator(self, name: str, version: str, namespace: str) -> Any:
        return self.creators.get((name, version, namespace))


class Symbols:
    """ISymExprs, the type of `symExprSetter`."""

    def __init__(self) -> None:
        self.nbSymExprs = 0
        self.set: dict[int, Any] = {}

    def __setitem__(self, index: int, value: Any) -> None:
        assert index < self.nbSymExprs
        self.set[index] = value


class Logger(Base):
    WARNING = 2

    def log(self, severity: int, message: str) -> None:
        pass


def library() -> Any:
    """Return a module `tensorrt` without its submodule `plugin`."""
    module: Any = types.ModuleType("tensorrt")
    module.__path__, module.__version__, module.Logger = [], "0.0-stand-in", Logger
    names = "ITensor IPluginV3 IPluginV3QuickCore IPluginV3QuickBuild IPluginV3QuickRuntime IPluginV3QuickAOTBuild"
    for name in (*names.split(), "IPluginCreatorV3Quick", "ISymExpr"):
        setattr(module, name, type(name, (Base,), {}))
    module.PluginFieldType = _enum(
        "PluginFieldType", "UNKNOWN CHAR INT8 INT16 INT32 INT64 FLOAT16 FLOAT32 FLOAT64 DIMS BF16 FP8 INT4 FP4"
    )
    module.DataType = _enum("DataType", "FLOAT HALF INT8 INT32 BOOL UINT8 FP8 BF16 INT64 INT4")
    module.TensorFormat = _enum("TensorFormat", "LINEAR CHW2 HWC8 HWC")
    module.DimensionOperation = _enum("DimensionOperation", "SUM PROD MAX MIN SUB EQUAL LESS FLOOR_DIV CEIL_DIV")
    module.PluginArgType = _enum("PluginArgType", "INT")
    module.PluginArgDataType = _enum("PluginArgDataType", "INT8 INT16 INT32")
    module.TensorRTPhase = _enum("TensorRTPhase", "BUILD RUNTIME")
    module.QuickPluginCreationRequest = _enum(
        "QuickPluginCreationRequest", "UNKNOWN PREFER_JIT PREFER_AOT STRICT_JIT STRICT_AOT"
    )
    module.int32, module.float32, module.float16 = (module.DataType[n] for n in ("INT32", "FLOAT", "HALF"))
    module.IDimensionExpr, module.DimsExprs = Expression, lambda length: [None] * length
    module.PluginField, module.PluginFieldCollection = PluginField, list
    module.PluginTensorDesc, module.DynamicPluginTensorDesc = PluginTensorDesc, DynamicPluginTensorDesc
    module.Dims = type("Dims", (tuple,), {"MAX_DIMS": 8})
    registry = Registry()
    module.get_plugin_registry = lambda: registry
    return module


@contextmanager
def installed(bindings: Path) -> Iterator[Any]:
    """Make `tensorrt` and `tensorrt.plugin` importable. `bindings` is the folder of the package tensorrt_bindings."""
    before = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == "tensorrt"}
    module = sys.modules["tensorrt"] = library()
    folder = bindings / "plugin"
    spec = importlib.util.spec_from_file_location(
        "tensorrt.plugin", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None and spec.loader is not None
    module.plugin = sys.modules["tensorrt.plugin"] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module.plugin)
        yield module
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] == "tensorrt"]:
            del sys.modules[name]
        sys.modules.update(before)


def build(module: Any, node: Any, inputs: list[tuple[tuple[int, ...], str]]) -> dict[str, Any]:
    """Do what TensorRT's parser and builder do with the ONNX node of a plugin.

    Args:
        inputs: shape and type of each input.

    Returns:
        The output's shape and type, the types that the plugin offered, the kernel's name and code, the launch
        parameters, and the integers.
    """
    import onnx

    given = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    namespace = given.get("plugin_namespace", b"").decode()
    creator = module.get_plugin_registry().get_creator(
        node.op_type, given.get("plugin_version", b"1").decode(), namespace
    )
    assert creator is not None, "Plugin not found, are the plugin name, version, and namespace correct?"
    fields = []
    for field in creator.field_names:  # the parser passes the fields that the creator names
        assert field.type == module.PluginFieldType.INT32, "this project's plugins have int32 fields only"
        fields.append(PluginField(field.name, np.array(given[field.name], np.int32), field.type))
    request = module.QuickPluginCreationRequest["STRICT_AOT" if given["aot"] else "STRICT_JIT"]
    plugin = creator.create_plugin(node.op_type, namespace, fields, module.TensorRTPhase.BUILD, request)

    tensor_types = [module.DataType[name] for _, name in inputs]
    output_type = plugin.get_output_data_types(tensor_types, [len(shape) for shape, _ in inputs])[0]
    symbols = [[Expression(n) for n in shape] for shape, _ in inputs]
    output = tuple(e.value for e in plugin.get_output_shapes(symbols, [], Expressions())[0])
    linear = module.TensorFormat.LINEAR
    ends = [
        DynamicPluginTensorDesc(shape, dtype, linear)
        for shape, dtype in (*((s, t) for (s, _), t in zip(inputs, tensor_types, strict=True)), (output, output_type))
    ]
    offered = plugin.get_supported_format_combinations(ends, len(inputs))
    assert [(o.type, o.format) for o in offered] == [(e.desc.type, linear) for e in ends], "no format fits the network"
    plugin.configure_plugin(ends[:-1], ends[-1:])
    assert plugin.get_valid_tactics() == []
    plugin = plugin.clone()
    plugin.set_tactic(0)
    launched, symbolic = types.SimpleNamespace(), Symbols()
    plugin.get_launch_params(symbols, ends, len(inputs), launched, symbolic, Expressions())
    name, code = plugin.get_kernel([e.desc for e in ends[:-1]], [e.desc for e in ends[-1:]])
    assert all(s.dtype == module.PluginArgDataType.INT32 for s in symbolic.set.values())
    return {
        "shape": output,
        "type": output_type.name,
        "kernel": name,
        "code": code,
        "launch": {key: value.expr.value for key, value in vars(launched).items()},
        "integers": [symbolic.set[i].expr.value for i in range(symbolic.nbSymExprs)],
    }
