"""Parse a bundle's graph as a strongly typed TensorRT network, and check its tensors and precision."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlj_edge.bundle import EngineSpec
from vlj_edge.bundle.tensor_check import check_tensors
from vlj_edge.errors import VljEdgeError
from vlj_edge.tensorrt_package import NUMPY_NAMES, TensorRtPackage

_COMPUTE = {"fp32": "FLOAT", "fp16": "HALF", "bf16": "BF16"}
# Layers that must compute in the bundle's precision. Norms, softmax and the residual sum stay in fp32 on purpose.
_PRODUCTS = ("MATRIX_MULTIPLY", "CONVOLUTION", "ATTENTION_INPUT", "PLUGIN_V3")


@dataclass(frozen=True)
class Network:
    """A parsed network, with the TensorRT objects that must not be freed before it.

    Attributes:
        errors: what TensorRT logged as errors, oldest first.
    """

    trt: Any
    builder: Any
    definition: Any
    parser: Any
    log: Any
    errors: list[str]

    @property
    def layers(self) -> list[Any]:
        """All layers, as objects of the base class ILayer."""
        return [self.definition.get_layer(i) for i in range(self.definition.num_layers)]

    @property
    def first_error(self) -> str:
        """The first error, on one line."""
        return " ".join(self.errors[0].split())[:300] if self.errors else "no reason given"


def parse(trt: TensorRtPackage, path: Path) -> Network:
    """Parse an ONNX file, whose weights may be in a file beside it.

    Raises:
        VljEdgeError: this TensorRT needs a card and finds none, or does not support an operator of the graph.
    """
    module, errors = trt.module, []

    class Log(module.ILogger):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            module.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity <= module.ILogger.ERROR:  # a lower number is more severe
                errors.append(message)

    log = Log()
    with quiet():
        builder = module.Builder(log)
        if builder is None:
            raise VljEdgeError(
                f"{trt.package} {trt.version} needs a card to build and finds none: build on the device, or ahead of"
                " time with TensorRT-RTX (pip install 'vlj-edge[rtx]', --target sm86)"
            )
        # TensorRT 11 has no other kind; without this, 10 chooses precisions itself.
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
    return Network(module, builder, definition, parser, log, errors)


def add_profiles(network: Network, config: Any, spec: EngineSpec, counts: Sequence[int]) -> None:
    """Add an optimization profile of fixed shapes for each number of tokens, that of all tokens first: it is the
    default one.

    Raises:
        VljEdgeError: TensorRT refuses one.
    """
    for count in reversed(counts):
        profile = network.builder.create_optimization_profile()
        for tensor in spec.by_tokens:
            shape = tensor.shape_of(count)
            profile.set_shape(tensor.name, shape, shape, shape)
        if config.num_optimization_profiles:
            profile.extra_memory_target = 0.0  # the weights of the first profile serve it
        if config.add_optimization_profile(profile) < 0:
            raise VljEdgeError(
                f"TensorRT builds no {spec.file} for {count} tokens ({network.first_error}): export the bundle without"
                " --token-shares"
            )


def check(network: Network, path: Path, spec: EngineSpec) -> None:
    """Check that inputs and outputs are the manifest's, and that products compute in the bundle's precision.

    Raises:
        VljEdgeError: a tensor or layer differs; the message names the first.
    """
    definition = network.definition
    inputs = [definition.get_input(i) for i in range(definition.num_inputs)]
    outputs = [definition.get_output(i) for i in range(definition.num_outputs)]
    for specs, tensors in ((spec.inputs, inputs), (spec.outputs, outputs)):
        check_tensors(path, specs, _tensors(tensors), "TensorRT", "export the bundle again")
    # The type beside int8 or int4: fp16 in "int8-fp16", fp32 in "int8w" (EngineSpec.precision).
    expected = _COMPUTE.get(spec.precision.rpartition("-")[2], "FLOAT")
    quantised = 0
    if bool(spec.plugins) != bool(plugin_layers(network)):
        found, stated = ("no", "some") if spec.plugins else ("some", "none")
        raise VljEdgeError(
            f"{path}: TensorRT finds {found} vlj-edge kernels where the manifest has {stated}: report this"
        )
    for layer in network.layers:
        kind = layer.type.name
        quantised += kind == "QUANTIZE"
        if kind in _PRODUCTS and layer.get_output(0).dtype.name != expected:
            raise VljEdgeError(
                f"{path}: {layer.name} would compute in {layer.get_output(0).dtype.name} although the bundle is"
                f" {spec.precision}: export it again, and report this"
            )
    if spec.precision in ("int8", "int8-fp16") and not quantised:
        raise VljEdgeError(f"{path}: no layer quantises to int8 although the bundle is {spec.precision}: report this")


def attention(network: Network) -> list[Any]:
    """Return the IAttention of every Attention operator; none where TensorRT does not have the operator."""
    found = []
    for layer in network.layers:
        if layer.type.name == "ATTENTION_INPUT":
            layer.__class__ = network.trt.IAttentionInputLayer  # get_layer() gives the base class
            found.append(layer.attention)
    return found


def plugin_layers(network: Network) -> list[Any]:
    """Return the layers that are plugins, all of which are vlj-edge's."""
    return [layer for layer in network.layers if layer.type.name == "PLUGIN_V3"]


def _tensors(tensors: list[Any]) -> dict[str, tuple[str, list[int]]]:
    return {t.name: (NUMPY_NAMES.get(t.dtype.name, t.dtype.name), list(t.shape)) for t in tensors}


@contextmanager
def quiet() -> Iterator[None]:
    """Discard what the libraries print on stderr past their logger."""
    with tempfile.TemporaryFile() as sink:
        kept = os.dup(2)
        try:
            os.dup2(sink.fileno(), 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
