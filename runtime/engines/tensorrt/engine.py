"""TensorRT and TensorRT-RTX engines: buffers and addresses are set once, and a run is one launch of a CUDA graph.

The graph is captured at the first run, and at the first with another number of tokens: copies of the host's inputs to
the card, the engine, copies of the outputs that the host reads. A tensor that only another engine reads stays on the
card. The host waits only in wait().
"""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vlj_edge.bundle import KEPT, EngineSpec, TensorSpec
from vlj_edge.bundle.engine_cache import RuntimeId, find_engine, read_engine
from vlj_edge.bundle.tensor_check import check_tensors
from vlj_edge.errors import VljEdgeError
from vlj_edge.tensorrt_package import NUMPY_NAMES, import_tensorrt

from ..base import Array, EngineRequest, keep_all_tokens
from .contexts import Contexts, profiles_of
from .device import Buffer, Device, open_device

_TEXT_ENGINES = ("decoder", "text_encoder")
_KEPT_OUTPUTS = 32  # buffers of keep_output(), a few KB each; the gate and the decoder use about 12 at a time
_BYTES = {"bfloat16": 2}  # numpy has no such type: tensors of it stay on the card


@dataclass(frozen=True)
class Session:
    """The state that all engines of a process share: the card, its streams, and TensorRT's runtime.

    Attributes:
        stream: CUDA stream of encoder and predictor.
        text_stream: CUDA stream of decoder and text encoder, which run at the same time from another thread.
        errors: TensorRT's error messages, newest last.
        thread_state: its `entered` is true in threads where the card is current.
    """

    device: Device
    stream: int
    text_stream: int
    runtime_id: RuntimeId
    trt: Any
    runtime: Any
    log: Any
    errors: list[str] = field(default_factory=list)
    thread_state: threading.local = field(default_factory=threading.local)

    def enter(self) -> None:
        """Make the card current in this thread, if it is not."""
        if not getattr(self.thread_state, "entered", False):
            self.device.use()
            self.thread_state.entered = True

    def last_error(self) -> str:
        """Return the newest error on one line."""
        return " ".join(self.errors[-1].split())[:200] if self.errors else "TensorRT gives no reason"


@lru_cache(maxsize=1)
def session() -> Session:
    """Return the session of this process; it is opened at the first call.

    Raises:
        VljEdgeError: there is no TensorRT or no card, or one of them does not work.
    """
    trt = import_tensorrt()
    device = open_device()
    device.use()  # the device may have been opened by another thread, in select_backend()
    errors: list[str] = []
    log = _logger(trt.module, errors)
    runtime = trt.module.Runtime(log)
    if runtime is None:
        raise VljEdgeError(
            f"{trt.package} {trt.version} does not start here ({errors}): run with --backend onnxruntime"
        )
    runtime_id = RuntimeId(trt.package, trt.version, device.sm, device.name)
    return Session(device, device.stream(), device.stream(), runtime_id, trt.module, runtime, log, errors)


class DeviceOutput:
    """A copy of an engine's output on the card. When it is garbage collected, its buffer is reused."""

    def __init__(self, buffer: Buffer, spare: list[Buffer]) -> None:
        self.buffer, self._spare = buffer, spare

    def __del__(self) -> None:
        self._spare.append(self.buffer)


class TrtEngine:
    """A deserialised engine with its buffers on the card and its captured CUDA graphs. See Engine."""

    def __init__(self, session: Session, path: Path, plan: bytes, request: EngineRequest) -> None:
        self._session, self._path = session, path
        self.stream = session.text_stream if request.name in _TEXT_ENGINES else session.stream
        session.enter()
        self._engine = session.runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise VljEdgeError(
                f"{path} cannot be loaded ({session.last_error()}): run vlj-edge build {request.directory} --force"
            )
        self.spec = spec = _spec(path, self._engine, request)
        device = session.device
        self.buffers = _buffers(device, spec, self._engine, request)
        self._written_back = {  # in place in the bundle, but not in this engine: copied back after every run
            self.buffers[source].address: (self.buffers[source], self.buffers[name])
            for name, source in spec.in_place.items()
            if self.buffers[source] is not self.buffers[name]
        }
        self._contexts = Contexts(session, path, self._engine, spec, self.buffers, self.stream)
        tokens = request.manifest.tokens if spec.by_tokens else None
        self._current = self._contexts.of(None if tokens is None else tokens.counts[-1])
        kept = set(spec.in_place.values())  # caches, which only the engine itself writes
        own = [t for t in spec.inputs if t.name not in request.inputs_from and t.name not in kept]
        staged = {t.name: device.pinned(t.shape, _host_type(path, t)) for t in own}
        keep_all_tokens(staged)
        self._constants: dict[str, Array] = {name: staged.pop(name) for name in request.constant_inputs}
        self.inputs: dict[str, Array] = staged
        read = [t for t in spec.outputs if t.name in _outputs_read(request)]
        self.outputs: dict[str, Array] = {t.name: device.pinned(t.shape, _host_type(path, t)) for t in read}
        self._start_event, self._end_event = device.event(), device.event()
        self._spare: dict[str, list[Buffer]] = {}

    def run(self) -> None:
        """See Engine.run. The first run is executed, then captured: TensorRT must have run once before a capture."""
        device, stream, current = self._session.device, self.stream, self._current
        self._session.enter()
        device.record(self._start_event, stream)
        if current.graph is not None:
            device.launch(current.graph, stream)
        else:
            self._enqueue()
            device.record(self._end_event, stream)
            device.wait(self._end_event)
            device.begin_capture(stream)
            try:
                self._enqueue()
            except BaseException:  # an open capture would record the work of all other engines
                with suppress(VljEdgeError):  # only says that the capture failed; the first error says why
                    device.end_capture(stream)
                raise
            current.graph = device.end_capture(stream)
        device.record(self._end_event, stream)

    def wait(self) -> None:
        """See Engine.wait."""
        self._session.enter()
        self._session.device.wait(self._end_event)

    @property
    def takes_parts(self) -> bool:
        """See Engine.takes_parts."""
        return bool(self.spec.by_tokens)

    def keep_tokens(self, kept: npt.NDArray[np.int64]) -> None:
        """See Engine.keep_tokens."""
        if self.takes_parts:
            self._session.enter()
            self._current = self._contexts.of(len(kept))
        elif len(kept) < self.inputs[KEPT].shape[1]:
            raise VljEdgeError(
                f"{self._path} was built for all tokens of a clip: run vlj-edge build again, or give --tokens all"
            )
        self.inputs[KEPT][0, : len(kept)] = kept

    def interrupt(self) -> None:
        """See Engine.interrupt: a launch on the card cannot be cancelled, and takes milliseconds."""

    def keep_output(self, output: str) -> DeviceOutput | None:
        """See Engine.keep_output. All buffers are allocated at the first call; None if none of them is free."""
        device, source = self._session.device, self.buffers[output]
        self._session.enter()
        if output not in self._spare:
            self._spare[output] = [device.allocate(source.size) for _ in range(_KEPT_OUTPUTS)]
        spare = self._spare[output]
        if not spare:
            return None
        kept = DeviceOutput(spare.pop(), spare)
        device.copy(kept.buffer, source, self.stream)
        device.record(self._end_event, self.stream)  # so that wait() waits for the copy as well
        return kept

    def set_input(self, name: str, value: DeviceOutput | Array) -> None:
        """See Engine.set_input. A host array is copied to the card here, not in every run."""
        device, target = self._session.device, self.buffers[name]
        self._session.enter()
        if isinstance(value, DeviceOutput):
            if value.buffer.size != target.size:
                raise VljEdgeError(
                    f"{self._path}: {name} has {target.size} bytes on the card, what was kept {value.buffer.size}:"
                    " export the bundle again"
                )
            device.copy(target, value.buffer, self.stream)
        else:
            self._constants[name][...] = value
            device.copy_in(target, self._constants[name], self.stream)

    def milliseconds(self) -> float:
        """Return the device time of the last run. Call it after wait() of this engine or of one that ran after it."""
        return self._session.device.milliseconds(self._start_event, self._end_event)

    def bind(self, name: str, buffer: Buffer) -> None:
        """Read an input from another buffer on the card from now on. Graphs are captured again, for the new address.

        Raises:
            VljEdgeError: the buffer is smaller than the tensor.
        """
        if buffer.size < self.buffers[name].size:
            raise VljEdgeError(f"{self._path}: {name} needs {self.buffers[name].size} bytes, not {buffer.size}")
        self.wait()
        self.buffers[name] = buffer
        self.inputs.pop(name, None)
        self._contexts.rebind(name)

    def _enqueue(self) -> None:
        device, stream = self._session.device, self.stream
        for name, array in self.inputs.items():
            device.copy_in(self.buffers[name], array, stream)
        if not self._current.context.execute_async_v3(stream):
            raise VljEdgeError(
                f"{self._path} failed while running ({self._session.last_error()}): build it again with vlj-edge build"
                " --force, or run with --backend onnxruntime"
            )
        for target, source in self._written_back.values():
            device.copy(target, source, stream)
        for name, array in self.outputs.items():
            device.copy_out(array, self.buffers[name], stream)


def load(request: EngineRequest) -> TrtEngine:
    """Load the engine that was built for this card. Its file is verified before it is deserialised.

    Raises:
        VljEdgeError: TensorRT or the card does not work, no engine was built for it, or the file was changed since.
    """
    current = session()
    found = find_engine(request.directory, request.manifest, request.name, current.runtime_id, request.engines)
    return TrtEngine(current, found.path, read_engine(found), request)


def _spec(path: Path, engine: Any, request: EngineRequest) -> EngineSpec:
    """Return the manifest's entry of an engine, of all tokens alone if it was built so by an earlier version.

    Raises:
        VljEdgeError: the engine has other tensors, or was built for other numbers of tokens.
    """
    profiles, tokens = profiles_of(engine, request.spec), request.manifest.tokens
    spec = request.spec if profiles else request.spec.of_all_tokens
    check_tensors(path, (*spec.inputs, *spec.outputs), _tensors(engine), "the engine", "run vlj-edge build again")
    if profiles and tokens is not None and not set(tokens.counts) <= set(profiles):
        built, wanted = (", ".join(map(str, sorted(numbers))) for numbers in (profiles, tokens.counts))
        raise VljEdgeError(f"{path} was built for {built} tokens and the bundle has {wanted}: run vlj-edge build again")
    return spec


def _outputs_read(request: EngineRequest) -> set[str]:
    """Return the names of the outputs that the host reads: those requested, or all except caches."""
    if request.outputs_read is not None:
        return set(request.outputs_read)
    return {tensor.name for tensor in request.spec.outputs} - set(request.spec.in_place)


def _buffers(device: Device, spec: EngineSpec, engine: Any, request: EngineRequest) -> dict[str, Buffer]:
    """Return a buffer for every tensor: another engine's, for an in-place output its input's, or a new one."""
    buffers: dict[str, Buffer] = {}
    for tensor in (*spec.inputs, *spec.outputs):
        other = request.inputs_from.get(tensor.name)
        source = spec.in_place.get(tensor.name)
        if other is not None:
            if not isinstance(other, TrtEngine):
                raise VljEdgeError(f"{tensor.name} cannot be read from an engine of another backend: use one for all")
            buffers[tensor.name] = other.buffers[tensor.name]
        elif source is not None and _aliased(engine, tensor.name) == source:
            buffers[tensor.name] = buffers[source]
        else:
            itemsize = _BYTES.get(tensor.dtype) or np.dtype(tensor.dtype).itemsize
            buffers[tensor.name] = device.allocate(int(np.prod(tensor.shape)) * itemsize)
    return buffers


def _aliased(engine: Any, output: str) -> str | None:
    """Return the input with which an output must share memory, or None. TensorRT reports it in versions that have
    TensorScatter. Older versions never write in place, so a shared buffer would be overwritten while it is still
    read."""
    ask = getattr(engine, "get_aliased_input_tensor", None)
    return ask(output) or None if ask is not None else None


def _host_type(path: Path, tensor: TensorSpec) -> Any:
    if tensor.dtype in _BYTES:
        raise VljEdgeError(f"{path}: {tensor.name} is {tensor.dtype}, which the host cannot read: export it in fp16")
    return np.dtype(tensor.dtype)


def _tensors(engine: Any) -> dict[str, tuple[str, tuple[int, ...]]]:
    names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    kinds = [engine.get_tensor_dtype(name).name for name in names]
    return {
        name: (NUMPY_NAMES.get(kind, kind), tuple(engine.get_tensor_shape(name)))
        for name, kind in zip(names, kinds, strict=True)
    }


def _logger(module: Any, errors: list[str]) -> Any:
    class Log(module.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            module.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity <= module.ILogger.ERROR:  # worse is lower
                errors.append(message)

    return Log()
