"""The CUDA backend: ONNX Runtime's CUDA provider, with every tensor in device memory and one CUDA graph an engine.

What the host writes is copied in before a run, and what it reads is copied out after it; what engines pass to each
other, and a decoder's cache, stay on the card. A node without a CUDA kernel is an error unless the CPU may run it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from vlj_edge.bundle import EngineSpec, TensorSpec
from vlj_edge.bundle.tensor_check import check_tensors
from vlj_edge.errors import VljEdgeError
from vlj_edge.telemetry import import_onnxruntime

from .base import Array, EngineRequest, HostMemoryEngine, keep_all_tokens, verified_graph
from .cuda_check import PROVIDER, card_error, find_card, raise_not_loaded
from .onnxruntime import session_options, tensors_of
from .tensorrt.device import raise_driver_error

_log = logging.getLogger(__name__)
# While ONNX Runtime records a CUDA graph, no other thread of the process may allocate or copy on the card
# (cudaStreamCaptureModeGlobal).
_CARD = threading.RLock()


class CudaEngine(HostMemoryEngine):
    """A session with its tensors on the card. See Engine.

    Attributes:
        on_card: name of an input or output -> its OrtValue in device memory.
    """

    def __init__(self, path: Path, request: EngineRequest) -> None:
        self._path, self.spec = path, request.spec
        ort = import_onnxruntime()
        self._ort: Any = ort
        with _CARD:
            self._session = _open_session(ort, path, request)
            for specs, nodes in (
                (self.spec.inputs, self._session.get_inputs()),
                (self.spec.outputs, self._session.get_outputs()),
            ):
                check_tensors(path, specs, tensors_of(nodes), "the file", "export the bundle again")
            self.on_card = _on_card(ort, path, self.spec, request.inputs_from)
            self.inputs, self.outputs = _on_host(request)
            self._ways: dict[int | None, tuple[Any, Any]] = {}  # tokens -> binding and options: a graph belongs to one
            self._bind()
            if not request.cpu_nodes:
                self.run()  # records the CUDA graph now, while no camera's decoder uses the card

    def _bind(self, tokens: int | None = None) -> None:
        if tokens not in self._ways:
            binding, options = self._session.io_binding(), self._ort.RunOptions()
            if tokens is not None:
                options.add_run_config_entry("gpu_graph_id", str(tokens))
            for bind, specs in ((binding.bind_input, self.spec.inputs), (binding.bind_output, self.spec.outputs)):
                for tensor in specs:
                    address = self.on_card[tensor.name].data_ptr()
                    bind(tensor.name, "cuda", 0, np.dtype(tensor.dtype).type, list(tensor.shape_of(tokens)), address)
            self._ways[tokens] = binding, options
        self._binding, self._options = self._ways[tokens]

    def run(self) -> None:
        """See Engine.run."""
        self._options.terminate = False
        try:
            with _CARD:
                for name, array in self.inputs.items():
                    self.on_card[name].update_inplace(array)
                self._session.run_with_iobinding(self._binding, self._options)
                for name, array in self.outputs.items():
                    array[...] = self.on_card[name].numpy()
        except Exception as error:  # onnxruntime's exceptions have no base class but Exception
            raise_driver_error(f"running {self._path}", card_error(str(error)) or str(error))

    def interrupt(self) -> None:
        """See Engine.interrupt: the run ends before its next node; a graph runs to its end."""
        self._options.terminate = True

    def set_input(self, name: str, value: object) -> None:
        """See Engine.set_input."""
        tensor = next(each for each in self.spec.inputs if each.name == name)
        array = np.ascontiguousarray(np.broadcast_to(np.asarray(value, tensor.dtype), tensor.shape))
        with _CARD:
            self.on_card[name].update_inplace(array)


def load(request: EngineRequest) -> CudaEngine:
    """Verify and load an engine.

    Raises:
        VljEdgeError: CUDA cannot run here, onnxruntime cannot read the file or finds other inputs and outputs in it, or
            the card has no kernel for a node that the CPU may not run.
    """
    find_card()
    return CudaEngine(verified_graph(request), request)


def _open_session(ort: ModuleType, path: Path, request: EngineRequest) -> Any:
    ort.set_default_logger_severity(4)  # as that of the session: the provider logs with it while it starts
    options = session_options(ort, request.spec.precision, 1, False)
    if request.cpu_nodes:
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    else:
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    provider = {
        "device_id": "0",
        "use_tf32": str(int(request.tf32)),
        "enable_cuda_graph": str(int(not request.cpu_nodes)),
        "cudnn_conv_algo_search": "HEURISTIC",  # the default tries all of them, and may choose another at each start
    }
    session, said = None, ""
    try:  # without enable_fallback=0, an error is printed on stdout and the CPU runs everything
        session = ort.InferenceSession(str(path), options, providers=[(PROVIDER, provider)], enable_fallback=0)
    except Exception as error:  # as in run()
        said = str(error)
    if session is None or PROVIDER not in session.get_providers():
        raise_not_loaded(ort, path, said)
    if request.cpu_nodes:
        _log.info("%s on the CPU: %s", request.name, ", ".join(_operators_on_cpu(session)) or "no operator")
    return session


def _operators_on_cpu(session: Any) -> list[str]:
    """Return the operators that the CPU runs; empty if onnxruntime does not say it (before 1.24)."""
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return []
    parts = [part for part in session.get_provider_graph_assignment_info() if part.ep_name != PROVIDER]
    return sorted({node.op_type for part in parts for node in part.get_nodes()})


def _on_card(ort: Any, path: Path, spec: EngineSpec, inputs_from: Mapping[str, Any]) -> dict[str, Any]:
    """Allocate the tensors in device memory, filled with zeros, or "kept" with all tokens; those of other engines are
    theirs, and an in-place output has its input's memory."""
    found: dict[str, Any] = {}
    for tensor in spec.inputs:
        other = inputs_from.get(tensor.name)
        found[tensor.name] = _zeros(ort, tensor) if other is None else other.on_card[tensor.name]
        if list(found[tensor.name].shape()) != list(tensor.shape):
            raise VljEdgeError(f"{path}: {tensor.name} has another shape in the engine before: export the bundle again")
    for tensor in spec.outputs:
        found[tensor.name] = found.get(spec.in_place.get(tensor.name, "")) or _zeros(ort, tensor)
    return found


def _zeros(ort: Any, tensor: TensorSpec) -> Any:
    array = np.zeros(tensor.shape, tensor.dtype)
    keep_all_tokens({tensor.name: array})
    return ort.OrtValue.ortvalue_from_numpy(array, "cuda", 0)


def _on_host(request: EngineRequest) -> tuple[dict[str, Array], dict[str, Array]]:
    """Allocate the arrays that the host writes and reads."""
    spec = request.spec
    never_written = {*request.inputs_from, *request.constant_inputs, *spec.in_place.values()}
    inputs = {each.name: np.zeros(each.shape, each.dtype) for each in spec.inputs if each.name not in never_written}
    keep_all_tokens(inputs)
    read = {each.name for each in spec.outputs} if request.outputs_read is None else set(request.outputs_read)
    read -= set(spec.in_place)
    return inputs, {each.name: np.zeros(each.shape, each.dtype) for each in spec.outputs if each.name in read}
