"""A stand-in for onnxruntime-gpu and its card: the CPU computes, and what the CUDA provider demands is enforced.

Only device memory may be bound, a CUDA graph is replayed with the binding it was recorded with, nothing else may use
the card while one is recorded, and a node without a kernel fails the session unless the CPU may run it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
import onnxruntime

PROVIDER = "CUDAExecutionProvider"


class OrtCuda:
    """Stands for the module onnxruntime.

    Attributes:
        without_kernel: operators that the card cannot run.
        starts: whether the provider starts; if not, sessions have the CPU alone, as those of the real package.
        sessions: those that were opened.
        violations: of the rule that one thread at a time uses the card.
        fails: what a run raises, if not None.
        preload_says: what preload_dlls() prints.
    """

    __version__, __file__ = onnxruntime.__version__, "/no/such/onnxruntime/__init__.py"
    RunOptions, SessionOptions = onnxruntime.RunOptions, onnxruntime.SessionOptions

    def __init__(self) -> None:
        self.without_kernel: set[str] = set()
        self.starts, self.preload_says = True, ""
        self.sessions: list[Session] = []
        self.memory: dict[int, DeviceValue] = {}
        self.violations = 0
        self.fails: str | None = None
        self._busy = threading.Lock()

    @property
    def OrtValue(self) -> OrtCuda:
        return self

    def get_available_providers(self) -> list[str]:
        return ["TensorrtExecutionProvider", PROVIDER, "CPUExecutionProvider"]

    def set_default_logger_severity(self, severity: int) -> None:
        assert severity == 4

    def preload_dlls(self) -> None:
        print(self.preload_says, end="")  # on stdout, as the real one

    def ortvalue_from_numpy(self, array: np.ndarray, device: str, number: int) -> DeviceValue:
        assert (device, number) == ("cuda", 0)
        with self.in_use():
            return DeviceValue(self, array)

    def InferenceSession(
        self, path: str, options: Any, providers: list[tuple[str, dict[str, str]]], enable_fallback: int
    ) -> Session:
        assert enable_fallback == 0, "onnxruntime would print an error on stdout and use the CPU"
        [(name, settings)] = providers
        assert name == PROVIDER and all(type(value) is str for value in settings.values())
        self.sessions.append(Session(self, path, options, settings))
        return self.sessions[-1]

    @contextmanager
    def in_use(self) -> Iterator[None]:
        if not self._busy.acquire(blocking=False):
            self.violations += 1
            raise RuntimeError("CUDA failure 900: operation not permitted when stream is capturing")
        try:
            yield
        finally:
            self._busy.release()


class DeviceValue:
    """An OrtValue in device memory."""

    def __init__(self, card: OrtCuda, array: np.ndarray) -> None:
        self._card, self.array = card, np.array(array)
        card.memory[self.data_ptr()] = self

    def data_ptr(self) -> int:
        return int(self.array.ctypes.data)

    def shape(self) -> list[int]:
        return list(self.array.shape)

    def update_inplace(self, array: np.ndarray) -> None:
        with self._card.in_use():
            assert array.dtype == self.array.dtype and array.shape == self.array.shape and array.flags.c_contiguous
            self.array[...] = array

    def numpy(self) -> np.ndarray:
        with self._card.in_use():
            return self.array.copy()


class Binding:
    """An IOBinding: name -> address, of device memory alone."""

    def __init__(self, session: Session) -> None:
        self._session, self._binding = session, session.real.io_binding()
        self.addresses: dict[str, int] = {}

    def bind_input(self, name: str, device: str, number: int, kind: Any, shape: list[int], address: int) -> None:
        self._note(name, device, number, kind, shape, address)
        self._binding.bind_input(name, "cpu", 0, kind, shape, address)

    def bind_output(self, name: str, device: str, number: int, kind: Any, shape: list[int], address: int) -> None:
        self._note(name, device, number, kind, shape, address)
        self._binding.bind_output(name, "cpu", 0, kind, shape, address)

    def _note(self, name: str, device: str, number: int, kind: Any, shape: list[int], address: int) -> None:
        assert (device, number) == ("cuda", 0)
        there = self._session.card.memory[address].array
        assert there.dtype == np.dtype(kind) and there.size >= np.prod(shape)
        self.addresses[name] = address

    @property
    def real(self) -> Any:
        return self._binding


class Session:
    """A session on the card."""

    def __init__(self, card: OrtCuda, path: str, options: Any, settings: dict[str, str]) -> None:
        self.card, self.path, self.settings, self.graphs = card, path, settings, {}
        self.threads = options.intra_op_num_threads
        self.cpu_allowed = not _entry(options, "session.disable_cpu_ep_fallback")
        used = {node.op_type for node in onnx.load(path, load_external_data=False).graph.node}
        self.on_cpu = sorted(used & card.without_kernel)
        if card.fails:
            raise RuntimeError(card.fails)
        if not self.cpu_allowed and (self.on_cpu or not card.starts):
            raise RuntimeError("This session contains graph nodes that are assigned to the default CPU EP")
        if settings["enable_cuda_graph"] == "1" and self.on_cpu:
            raise RuntimeError("This session cannot use the graph capture feature as requested by the user")
        self.real = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        self.get_inputs, self.get_outputs = self.real.get_inputs, self.real.get_outputs
        self.bindings: list[Binding] = []
        self.runs = 0

    def get_providers(self) -> list[str]:
        return [PROVIDER, "CPUExecutionProvider"] if self.card.starts else ["CPUExecutionProvider"]

    def get_provider_graph_assignment_info(self) -> list[Any]:
        node = type("Node", (), {})
        nodes = [type("Node", (node,), {"op_type": name})() for name in self.on_cpu]
        part = type("Part", (), {"ep_name": "CPUExecutionProvider", "get_nodes": lambda self: nodes})
        return [part()]

    def io_binding(self) -> Binding:
        self.bindings.append(Binding(self))
        return self.bindings[-1]

    def run_with_iobinding(self, binding: Binding, options: Any) -> None:
        with self.card.in_use():
            if self.card.fails:
                raise RuntimeError(self.card.fails)
            if self.settings["enable_cuda_graph"] == "1":
                number = _entry(options, "gpu_graph_id")
                recorded = self.graphs.setdefault(number, (binding, dict(binding.addresses)))
                assert recorded == (binding, binding.addresses), "a graph writes where it wrote when it was recorded"
            self.runs += 1
            self.real.run_with_iobinding(binding.real)


def _entry(options: Any, key: str) -> str:
    try:
        if isinstance(options, onnxruntime.RunOptions):
            return str(options.get_run_config_entry(key))
        return str(options.get_session_config_entry(key))
    except RuntimeError:  # not set
        return ""
