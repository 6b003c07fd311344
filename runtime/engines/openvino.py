"""The OpenVINO backend, on the CPU. Buffers are bound once, so that runs copy nothing.

OpenVINO gives no guarantee for an output that shares memory with its input. So graphs with a cache are run by ONNX
Runtime; select.py says so in the description.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

from vlj_edge.bundle import EngineSpec, TensorSpec
from vlj_edge.bundle.tensor_check import check_tensors
from vlj_edge.errors import VljEdgeError
from vlj_edge.telemetry import import_openvino

from . import onnxruntime as ort
from .base import Array, Engine, EngineRequest, HostMemoryEngine, allocate, first_tokens, usable_cores, verified_graph

_COMPUTE = ("fp32", "int8", "int8w", "int4w")  # the precisions whose products are fp32 or int8
_NUMPY_NAMES = {"f32": "float32", "i64": "int64", "i32": "int32", "boolean": "bool"}


class OpenVinoEngine(HostMemoryEngine):
    """A compiled model with its buffers. See Engine."""

    def __init__(
        self, path: Path, spec: EngineSpec, shared: Mapping[str, Array], threads: int | None, bf16: bool
    ) -> None:
        openvino = import_openvino()
        self._path = path
        compiled = _compile(openvino, path, threads, bf16)
        for specs, ports in ((spec.inputs, compiled.inputs), (spec.outputs, compiled.outputs)):
            check_tensors(path, specs, _tensors(ports, specs), "the file", "export the bundle again")
        self.inputs, self.outputs = allocate(path, spec, shared)
        self._request = compiled.create_infer_request()
        tensors = {tensor.name: tensor for tensor in (*spec.inputs, *spec.outputs)}
        self._ports = [(port, tensors[_name(port, tensors)]) for port in (*compiled.inputs, *compiled.outputs)]
        self._bind()

    def _bind(self, tokens: int | None = None) -> None:
        openvino = import_openvino()
        for port, tensor in self._ports:
            array = first_tokens({**self.inputs, **self.outputs}[tensor.name], tensor, tokens)
            self._request.set_tensor(port, openvino.Tensor(array, shared_memory=True))

    def run(self) -> None:
        """See Engine.run."""
        try:
            self._request.infer()
        except Exception as error:  # openvino raises RuntimeError and pybind11's exceptions
            raise VljEdgeError(
                f"{self._path} failed while running ({_one_line(error)}): free memory, or use --backend onnxruntime"
            ) from error

    def interrupt(self) -> None:
        """See Engine.interrupt."""
        self._request.cancel()


def load(request: EngineRequest) -> Engine:
    """Verify and load an engine; a graph with a cache is loaded by ONNX Runtime (see above).

    Raises:
        VljEdgeError: openvino is not installed, cannot read the file or finds other inputs and outputs in it, or would
            compute in another precision than the bundle's.
    """
    spec = request.spec
    if spec.in_place:
        return ort.load(request)
    if spec.precision not in _COMPUTE:
        raise VljEdgeError(
            f"OpenVINO would compute the {request.name} in fp32 although the bundle is {spec.precision}: run with"
            " --backend onnxruntime, or export the bundle with --precision fp32 or int8"
        )
    shared = {name: engine.outputs[name] for name, engine in request.inputs_from.items()}
    return OpenVinoEngine(verified_graph(request), spec, shared, request.threads, request.bf16)


def has_bf16() -> bool:
    """Return whether this processor has bf16 instructions."""
    openvino = import_openvino()
    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _compile(openvino: Any, path: Path, threads: int | None, bf16: bool) -> Any:
    options = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads or usable_cores(),
        "NUM_STREAMS": 1,
        # OpenVINO's default is bf16 if the processor has it, whatever the graph's precision.
        "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",
    }
    if bf16 and not has_bf16():
        raise VljEdgeError(
            "this processor does not compute in bf16: run with --backend openvino, or vlj-edge tune again"
        )
    try:
        return openvino.Core().compile_model(path, "CPU", options)
    except Exception as error:  # as in run()
        raise VljEdgeError(
            f"OpenVINO {openvino.__version__.partition('-')[0]} cannot load {path} ({_one_line(error)}): run with"
            " --backend onnxruntime"
        ) from error


def _tensors(ports: Any, specs: tuple[TensorSpec, ...]) -> dict[str, tuple[str, list[int | None]]]:
    known = {spec.name for spec in specs}
    kinds = [port.get_element_type().get_type_name() for port in ports]
    return {
        _name(port, known): (
            _NUMPY_NAMES.get(kind, kind),
            [None if size.is_dynamic else size.get_length() for size in port.partial_shape],
        )
        for port, kind in zip(ports, kinds, strict=True)
    }


def _name(port: Any, known: Container[str]) -> str:
    """Return the port's name in the manifest. A port has the names of all nodes that were folded into it."""
    return next((str(name) for name in sorted(port.names) if name in known), str(port.any_name))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[-200:]  # openvino's reasons come last
