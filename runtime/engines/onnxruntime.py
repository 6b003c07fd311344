"""The ONNX Runtime backend, on the CPU. Buffers are bound by address once, so that runs copy nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from vlj_edge.bundle import EngineSpec
from vlj_edge.bundle.tensor_check import check_tensors
from vlj_edge.errors import VljEdgeError
from vlj_edge.telemetry import import_onnxruntime

from .base import Array, EngineRequest, HostMemoryEngine, allocate, first_tokens, usable_cores, verified_graph

# onnxruntime's names of the element types that a bundle may contain
_NUMPY_NAMES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
    "tensor(bool)": "bool",
}


class OrtEngine(HostMemoryEngine):
    """An onnxruntime session with its buffers. See Engine."""

    def __init__(
        self,
        path: Path,
        spec: EngineSpec,
        shared: Mapping[str, Array],
        threads: int | None,
        spin: bool = False,
    ) -> None:
        ort = import_onnxruntime()
        self._path = path
        self._options = ort.RunOptions()
        # No graph of a GPU is captured here. Unless that is said, ONNX Runtime 1.32 asks for it in every run and
        # catches the exception that says it is not set, which takes 25 to 70 microseconds.
        self._options.add_run_config_entry("gpu_graph_id", "-1")
        self._session = _session(ort, path, session_options(ort, spec.precision, threads, spin))
        for specs, nodes in ((spec.inputs, self._session.get_inputs()), (spec.outputs, self._session.get_outputs())):
            check_tensors(path, specs, tensors_of(nodes), "the file", "export the bundle again")
        self.inputs, self.outputs = allocate(path, spec, shared)
        self._spec, self._binding = spec, self._session.io_binding()
        self._bind()

    def _bind(self, tokens: int | None = None) -> None:
        for tensor in self._spec.inputs:
            array = first_tokens(self.inputs[tensor.name], tensor, tokens)
            self._binding.bind_input(tensor.name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
        for tensor in self._spec.outputs:
            array = first_tokens(self.outputs[tensor.name], tensor, tokens)
            self._binding.bind_output(tensor.name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)

    def run(self) -> None:
        """See Engine.run."""
        self._options.terminate = False
        try:
            self._session.run_with_iobinding(self._binding, self._options)
        except Exception as error:  # onnxruntime's exceptions have no base class but Exception
            raise VljEdgeError(
                f"{self._path} failed while running ({one_line(error)}): free memory and try again, or export it again"
            ) from error

    def interrupt(self) -> None:
        """See Engine.interrupt: the run ends before its next node."""
        self._options.terminate = True


def load(request: EngineRequest) -> OrtEngine:
    """Verify and load an engine.

    Raises:
        VljEdgeError: onnxruntime is not installed, cannot read the file, or finds other inputs and outputs in it.
    """
    shared = {name: engine.outputs[name] for name, engine in request.inputs_from.items()}
    return OrtEngine(verified_graph(request), request.spec, shared, request.threads, spin=request.spin)


def session_options(ort: ModuleType, precision: str, threads: int | None, spin: bool) -> Any:
    """Return the options of a session.

    Args:
        precision: of the engine, EngineSpec.precision.
    """
    options = ort.SessionOptions()
    options.log_severity_level = 4  # fatal only: errors are raised as exceptions, and stderr belongs to the commands
    options.intra_op_num_threads = threads or usable_cores()
    options.inter_op_num_threads = 1
    # Spinning threads would use the cores between two windows, which the camera and the video decoder need.
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spin)))
    if precision in ("int8", "int8-fp16"):
        # onnxruntime 1.32 fuses the MatMul and Add of int8 products into a Gemm that it cannot load. The other
        # workaround, session.qdqisint8allowed, is 1.4 x as slow (nano's vision encoder, AVX-512 VNNI).
        options.add_session_config_entry("optimization.disable_specified_optimizers", "MatMulAddFusion")
    return options


def _session(ort: ModuleType, path: Path, options: Any) -> Any:
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # as in run()
        raise VljEdgeError(
            f"onnxruntime {ort.__version__} cannot load {path} ({one_line(error)}): "
            "pip install -U 'onnxruntime>=1.23', or export the bundle again with this version of vlj-edge"
        ) from error


def tensors_of(nodes: Sequence[Any]) -> dict[str, tuple[str, list[Any]]]:
    """Return name -> dtype and shape of a session's inputs or outputs."""
    return {node.name: (_NUMPY_NAMES.get(node.type, node.type), list(node.shape)) for node in nodes}


def one_line(error: Exception) -> str:
    """Return an error of onnxruntime on one line, shortened."""
    return " ".join(str(error).split())[:200]
