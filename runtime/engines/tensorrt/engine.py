"""TensorRT and TensorRT-RTX as an engine: buffers and addresses set once, then one graph launch a run.

What a run does is captured once: the host's inputs to the card, the engine, the outputs that the host reads back. What
only another engine reads stays on the card. The host waits in wait() and nowhere else.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from vlj_edge.bundle import EngineSpec, TensorSpec
from vlj_edge.bundle.engine_cache import RuntimeId, find_engine, read_engine
from vlj_edge.bundle.tensor_check import check_tensors
from vlj_edge.errors import VljEdgeError
from vlj_edge.tensorrt_package import import_tensorrt

from ..base import Array, EngineRequest
from .device import Buffer, Device, open_device

_NUMPY_NAMES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "BF16": "bfloat16",
    "INT64": "int64",
    "INT32": "int32",
    "BOOL": "bool",
}
_ABOUT_TEXT = ("decoder", "text_encoder")
_KEPT = 32  # outputs that are kept at a time: a few KB each; the gate and the decoder hold on to about a dozen
_BYTES = {"bfloat16": 2}  # numpy has no such type: it stays on the card


@dataclass(frozen=True)
class Session:
    """What the engines of a process share: the card, its streams, and TensorRT's runtime.

    Attributes:
        stream: orders what is done to a clip: predictor after encoder.
        text_stream: the decoder's and the text encoder's, which run beside it, from another thread.
        said: TensorRT's own errors, newest last.
    """

    device: Device
    stream: int
    text_stream: int
    runtime_id: RuntimeId
    trt: Any
    runtime: Any
    log: Any
    said: list[str] = field(default_factory=list)
    entered: threading.local = field(default_factory=threading.local)

    def enter(self) -> None:
        """Make the card current in this thread, if it is not yet."""
        if not getattr(self.entered, "yes", False):
            self.device.use()
            self.entered.yes = True

    def why(self) -> str:
        """The newest error, on one line."""
        return " ".join(self.said[-1].split())[:200] if self.said else "TensorRT does not say why"


@lru_cache(maxsize=1)
def session() -> Session:
    """Opened with the first engine.

    Raises:
        VljEdgeError: no TensorRT, no card, or one of them does not work.
    """
    trt = import_tensorrt()
    device = open_device()
    device.use()  # another thread may have opened it, to choose a backend
    said: list[str] = []
    log = _log(trt.module, said)
    runtime = trt.module.Runtime(log)
    if runtime is None:
        raise VljEdgeError(f"{trt.package} {trt.version} does not start here ({said}): run with --backend onnxruntime")
    here = RuntimeId(trt.package, trt.version, device.sm, device.name)
    return Session(device, device.stream(), device.stream(), here, trt.module, runtime, log, said)


class Kept:
    """An output of one run, in memory of its own on the card, which is used again when nobody holds on to this."""

    def __init__(self, buffer: Buffer, spare: list[Buffer]) -> None:
        self.buffer, self._spare = buffer, spare

    def __del__(self) -> None:
        self._spare.append(self.buffer)


class TrtEngine:
    """One deserialised engine with its buffers on the card and its captured run. See Engine."""

    def __init__(self, session: Session, path: Path, plan: bytes, wanted: EngineRequest) -> None:
        self.spec = spec = wanted.spec
        self._session, self._path = session, path
        self.stream = session.text_stream if wanted.name in _ABOUT_TEXT else session.stream
        session.enter()
        self._engine = session.runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise VljEdgeError(
                f"{path} cannot be loaded ({session.why()}): run vlj-edge build {wanted.directory} --force"
            )
        tensors = (*spec.inputs, *spec.outputs)
        check_tensors(path, tensors, _tensors(self._engine), "the engine", "run vlj-edge build again")
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise VljEdgeError(f"{path} does not fit on the card ({session.why()}): close other programs")
        device = session.device
        self.buffers = _buffers(device, spec, self._engine, wanted)
        self._written_back = {  # in place for the bundle, but not for this engine: copied after every run
            self.buffers[source].address: (self.buffers[source], self.buffers[name])
            for name, source in spec.in_place.items()
            if self.buffers[source] is not self.buffers[name]
        }
        for name, buffer in self.buffers.items():
            self._set_address(name, buffer)
        kept = set(spec.in_place.values())  # caches that only the engine itself writes
        own = [t for t in spec.inputs if t.name not in wanted.inputs_from and t.name not in kept]
        staged = {t.name: device.pinned(t.shape, _host_type(path, t)) for t in own}
        self._given: dict[str, Array] = {name: staged.pop(name) for name in wanted.given}
        self.inputs: dict[str, Array] = staged
        read = [t for t in spec.outputs if t.name in _read(wanted)]
        self.outputs: dict[str, Array] = {t.name: device.pinned(t.shape, _host_type(path, t)) for t in read}
        self._begun, self._done = device.event(), device.event()
        self._graph: Any = None
        self._spare: dict[str, list[Buffer]] = {}

    def run(self) -> None:
        """See Engine.run. The first run is done step by step, so that what is captured has run before."""
        device, stream = self._session.device, self.stream
        self._session.enter()
        device.record(self._begun, stream)
        if self._graph is not None:
            device.launch(self._graph, stream)
        else:
            self._enqueue()
            device.record(self._done, stream)
            device.wait(self._done)
            device.begin_capture(stream)
            try:
                self._enqueue()
            except BaseException:  # a capture that is left open would swallow the work of all other engines
                with suppress(VljEdgeError):  # which says that the capture broke; why, is in the error that broke it
                    device.end_capture(stream)
                raise
            self._graph = device.end_capture(stream)
        device.record(self._done, stream)

    def wait(self) -> None:
        """See Engine.wait."""
        self._session.enter()
        self._session.device.wait(self._done)

    def interrupt(self) -> None:
        """See Engine.interrupt: a launch on the card cannot be taken back, and takes milliseconds."""

    def keep(self, output: str) -> Kept | None:
        """See Engine.keep. All places are allocated at the first call; while none is free there is None."""
        device, source = self._session.device, self.buffers[output]
        self._session.enter()
        if output not in self._spare:
            self._spare[output] = [device.allocate(source.size) for _ in range(_KEPT)]
        spare = self._spare[output]
        if not spare:
            return None
        kept = Kept(spare.pop(), spare)
        device.copy(kept.buffer, source, self.stream)
        device.record(self._done, self.stream)  # who waits for the run waits for this as well
        return kept

    def give(self, name: str, value: Kept | Array) -> None:
        """See Engine.give. An array of the host is copied to the card here, and not again in every run."""
        device, target = self._session.device, self.buffers[name]
        self._session.enter()
        if isinstance(value, Kept):
            if value.buffer.size != target.size:
                raise VljEdgeError(
                    f"{self._path}: {name} has {target.size} bytes on the card, what was kept {value.buffer.size}:"
                    " export the bundle again"
                )
            device.copy(target, value.buffer, self.stream)
        else:
            self._given[name][...] = value
            device.copy_in(target, self._given[name], self.stream)

    def milliseconds(self) -> float:
        """That the last run took the card; call it after wait() of this engine or of one that was run after it."""
        return self._session.device.milliseconds(self._begun, self._done)

    def bind(self, name: str, buffer: Buffer) -> None:
        """Read an input from another buffer on the card from now on. What was captured has the old address, so it goes.

        Raises:
            VljEdgeError: the buffer is smaller than the tensor.
        """
        if buffer.size < self.buffers[name].size:
            raise VljEdgeError(f"{self._path}: {name} needs {self.buffers[name].size} bytes, not {buffer.size}")
        self.wait()
        self.buffers[name], self._graph = buffer, None
        self.inputs.pop(name, None)
        self._set_address(name, buffer)

    def _set_address(self, name: str, buffer: Buffer) -> None:
        if not self._context.set_tensor_address(name, buffer.address):
            raise VljEdgeError(
                f"{self._path}: TensorRT refuses the memory of {name} ({self._session.why()}): build it again with"
                " vlj-edge build --force, or run with --backend onnxruntime"
            )

    def _enqueue(self) -> None:
        device, stream = self._session.device, self.stream
        for name, array in self.inputs.items():
            device.copy_in(self.buffers[name], array, stream)
        if not self._context.execute_async_v3(stream):
            raise VljEdgeError(
                f"{self._path} failed while running ({self._session.why()}): build it again with vlj-edge build"
                " --force, or run with --backend onnxruntime"
            )
        for target, source in self._written_back.values():
            device.copy(target, source, stream)
        for name, array in self.outputs.items():
            device.copy_out(array, self.buffers[name], stream)


def load(wanted: EngineRequest) -> TrtEngine:
    """The engine that was built for this card, hashed before it is deserialised.

    Raises:
        VljEdgeError: TensorRT or the card does not work, no engine was built for it, or it is not the one that was.
    """
    here = session()
    found = find_engine(wanted.directory, wanted.manifest, wanted.name, here.runtime_id, wanted.engines)
    return TrtEngine(here, found.path, read_engine(found), wanted)


def _read(wanted: EngineRequest) -> set[str]:
    """Outputs that the host reads: what was named, otherwise all that are no cache."""
    if wanted.outputs_read is not None:
        return set(wanted.outputs_read)
    return {tensor.name for tensor in wanted.spec.outputs} - set(wanted.spec.in_place)


def _buffers(device: Device, spec: EngineSpec, engine: Any, wanted: EngineRequest) -> dict[str, Buffer]:
    """Memory on the card for every tensor: another engine's, the input's own for what is in place, otherwise new."""
    buffers: dict[str, Buffer] = {}
    for tensor in (*spec.inputs, *spec.outputs):
        other = wanted.inputs_from.get(tensor.name)
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
    """The input whose memory an output must have. TensorRT knows of it from TensorScatter on; older ones never write in
    place, and an engine that does not expect it might read what it has overwritten."""
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
        name: (_NUMPY_NAMES.get(kind, kind), tuple(engine.get_tensor_shape(name)))
        for name, kind in zip(names, kinds, strict=True)
    }


def _log(module: Any, said: list[str]) -> Any:
    class Log(module.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            module.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity <= module.ILogger.ERROR:  # worse is lower
                said.append(message)

    return Log()
