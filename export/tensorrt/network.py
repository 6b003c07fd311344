"""A graph of the bundle as a TensorRT network: parsed, strongly typed, and checked to compute what was asked for."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlj_edge.bundle import EngineSpec
from vlj_edge.bundle.tensor_check import check_tensors
from vlj_edge.errors import VljEdgeError
from vlj_edge.tensorrt_package import TensorRtPackage

_COMPUTE = {"fp32": "FLOAT", "fp16": "HALF", "bf16": "BF16"}
_NUMPY_NAMES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "BF16": "bfloat16",
    "INT64": "int64",
    "INT32": "int32",
    "BOOL": "bool",
}
# Where the arithmetic is; what stays in fp32 of purpose (norms, softmax, the residual sum) is in none of these.
_PRODUCTS = ("MATRIX_MULTIPLY", "CONVOLUTION", "ATTENTION_INPUT", "PLUGIN_V3")


@dataclass(frozen=True)
class Network:
    """A parsed network with what has to live as long as it does.

    Attributes:
        said: what TensorRT logged as an error, in its order.
    """

    trt: Any
    builder: Any
    definition: Any
    parser: Any
    log: Any
    said: list[str]

    @property
    def layers(self) -> list[Any]:
        """Every layer, as the class that its type says: get_layer() gives the base class alone."""
        return [self.definition.get_layer(i) for i in range(self.definition.num_layers)]

    @property
    def why(self) -> str:
        """The first error, on one line."""
        return " ".join(self.said[0].split())[:300] if self.said else "it does not say why"


def parse(trt: TensorRtPackage, path: Path) -> Network:
    """The network of an ONNX file; its weights may lie beside it.

    Raises:
        VljEdgeError: there is no card where this TensorRT needs one, or it does not know the graph's operators.
    """
    module, said = trt.module, []

    class Log(module.ILogger):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            module.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity <= module.ILogger.ERROR:  # worse is lower
                said.append(message)

    log = Log()
    with quiet():
        builder = module.Builder(log)
        if builder is None:
            raise VljEdgeError(
                f"{trt.package} {trt.version} needs a card to build and finds none: build on the device, or ahead of"
                " time with TensorRT-RTX (pip install 'vlj-edge[rtx]', --target sm86)"
            )
        # TensorRT 11 knows no other networks; 10 would otherwise choose precisions by itself.
        typed = 1 << int(module.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        definition = builder.create_network(typed)
        parser = module.OnnxParser(definition, log)
        parsed = parser.parse_from_file(str(path))
    if not parsed:
        wrong = "; ".join(dict.fromkeys(parser.get_error(i).desc() for i in range(parser.num_errors)))
        raise VljEdgeError(
            f"{trt.package} {trt.version} does not read {path} ({' '.join(wrong.split())[:300]}): export the bundle"
            " with --flavour portable"
        )
    return Network(module, builder, definition, parser, log, said)


def check(network: Network, path: Path, spec: EngineSpec) -> None:
    """Inputs and outputs are the manifest's, and every product is computed in the precision that was asked for.

    Raises:
        VljEdgeError: the first layer or tensor that is not; it is named.
    """
    definition = network.definition
    inputs = [definition.get_input(i) for i in range(definition.num_inputs)]
    outputs = [definition.get_output(i) for i in range(definition.num_outputs)]
    for specs, tensors in ((spec.inputs, inputs), (spec.outputs, outputs)):
        check_tensors(path, specs, _tensors(tensors), "TensorRT", "export the bundle again")
    # "int8-fp16" computes in fp16 what is not int8; "int8w" without it in fp32 (EngineSpec.precision)
    wanted = _COMPUTE.get(spec.precision.rpartition("-")[2], "FLOAT")
    quantised = 0
    if bool(spec.plugins) != bool(plugin_layers(network)):
        has = "has none" if spec.plugins else "has some"
        raise VljEdgeError(
            f"{path}: TensorRT {has} of this project's kernels, the manifest says otherwise: report this"
        )
    for layer in network.layers:
        kind = layer.type.name
        quantised += kind == "QUANTIZE"
        if kind in _PRODUCTS and layer.get_output(0).dtype.name != wanted:
            raise VljEdgeError(
                f"{path}: {layer.name} would be computed in {layer.get_output(0).dtype.name} although the bundle is"
                f" {spec.precision}: export it again, and report this"
            )
    if spec.precision in ("int8", "int8-fp16") and not quantised:
        raise VljEdgeError(
            f"{path}: nothing in it is rounded to int8 although the bundle is {spec.precision}: report this"
        )


def attention(network: Network) -> list[Any]:
    """The IAttention of every fused-attention operator; none where TensorRT does not know the operator."""
    found = []
    for layer in network.layers:
        if layer.type.name == "ATTENTION_INPUT":
            layer.__class__ = network.trt.IAttentionInputLayer  # get_layer() gives the base class
            found.append(layer.attention)
    return found


def plugin_layers(network: Network) -> list[Any]:
    """The layers that are plugins; this project's graphs have none but its own."""
    return [layer for layer in network.layers if layer.type.name == "PLUGIN_V3"]


def _tensors(tensors: list[Any]) -> dict[str, tuple[str, list[int]]]:
    return {t.name: (_NUMPY_NAMES.get(t.dtype.name, t.dtype.name), list(t.shape)) for t in tensors}


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what the libraries print past their logger off stderr, which belongs to the commands."""
    with tempfile.TemporaryFile() as sink:
        kept = os.dup(2)
        try:
            os.dup2(sink.fileno(), 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
