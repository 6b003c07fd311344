"""The Engine protocol, the request with which a backend loads an engine, and buffers in host memory.

A backend is a module with `load(request: EngineRequest) -> Engine` and one line in BACKENDS.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from vlj_edge.bundle import KEPT, EngineSpec, Manifest, TensorSpec
from vlj_edge.bundle.engine_cache import engine_sources
from vlj_edge.bundle.graph_files import unchanged, verify_graph
from vlj_edge.cpu_quota import cpu_quota
from vlj_edge.errors import VljEdgeError, WrongCall
from vlj_edge.memory import require_memory

Array: TypeAlias = npt.NDArray[Any]

BACKENDS = {
    "onnxruntime": ".onnxruntime",
    "openvino": ".openvino",
    "tensorrt": ".tensorrt.engine",
    "cuda": ".cuda",
}
BackendName: TypeAlias = Literal[
    "onnxruntime", "openvino", "openvino-bf16", "tensorrt", "cuda", "cuda-tf32", "cuda+cpu", "cuda-tf32+cpu"
]
# Names of a backend with settings: name -> backend, fields of EngineRequest.
WITH_SETTINGS: dict[str, tuple[str, dict[str, bool]]] = {
    "openvino-bf16": ("openvino", {"bf16": True}),
    "cuda-tf32": ("cuda", {"tf32": True}),
    "cuda+cpu": ("cuda", {"cpu_nodes": True}),
    "cuda-tf32+cpu": ("cuda", {"tf32": True, "cpu_nodes": True}),
}
NO_BF16 = ("onnxruntime", "openvino", "cuda")  # they run an engine's form for a CPU where it has one, and no bf16


class Engine(Protocol):
    """One loaded engine.

    Write into `inputs`, call run(), then wait(), then read `outputs`. The arrays are allocated once and have the shapes
    and dtypes of the manifest. They hold only tensors that the host writes or reads; tensors that engines pass to each
    other may be in device memory.
    """

    inputs: dict[str, Array]
    outputs: dict[str, Array]

    @property
    def takes_parts(self) -> bool:
        """Whether keep_tokens() takes fewer tokens than all."""

    def run(self) -> None:
        """Compute the outputs from the current inputs. May return before they are computed: runs of all engines of a
        process are executed in order, and the inputs may be written again only after wait().

        Raises:
            VljEdgeError: the backend failed.
        """

    def wait(self) -> None:
        """Wait until `outputs` hold the results of the last run.

        Raises:
            VljEdgeError: the backend failed.
        """

    def keep_tokens(self, kept: npt.NDArray[np.int64]) -> None:
        """Give the engine a part of a clip's tokens in all runs from now on. Of arrays that have an axis by tokens
        (TensorSpec.by_tokens), the first len(kept) entries count. Until it is called, all tokens are taken.

        Args:
            kept: int64 [n], ascending, as many as one of Tokens.counts.

        Raises:
            VljEdgeError: the engine takes all tokens alone, or the backend failed.
        """

    def interrupt(self) -> None:
        """Make a run() in progress in another thread fail soon, if the backend can; otherwise do nothing."""

    def keep_output(self, output: str) -> object | None:
        """Copy an output in device memory, to be passed to set_input() of another engine at any later time. Call it
        between run() and wait(). Return None if no device memory is free for it, or outputs are in host memory.

        Raises:
            VljEdgeError: the backend failed.
        """

    def set_input(self, name: str, value: object) -> None:
        """Set one of the `constant_inputs` for all runs from now on, to an array or to a result of keep_output().

        Raises:
            VljEdgeError: the backend failed.
        """


class HostMemoryEngine:
    """Base of engines whose run() waits and whose tensors are all in host memory. See Engine."""

    inputs: dict[str, Array]
    outputs: dict[str, Array]

    def wait(self) -> None:
        """See Engine.wait: run() itself waits."""

    @property
    def takes_parts(self) -> bool:
        """See Engine.takes_parts."""
        return KEPT in self.inputs

    def keep_tokens(self, kept: npt.NDArray[np.int64]) -> None:
        """See Engine.keep_tokens."""
        self.inputs[KEPT][0, : len(kept)] = kept
        self._bind(len(kept))

    def _bind(self, tokens: int | None = None) -> None:
        """Bind all arrays; those that have an axis by tokens, up to `tokens` of it (None: all)."""
        raise NotImplementedError

    def interrupt(self) -> None:
        """See Engine.interrupt."""

    def keep_output(self, output: str) -> None:
        """See Engine.keep_output: there is no device memory."""

    def set_input(self, name: str, value: object) -> None:
        """See Engine.set_input."""
        self.inputs[name][...] = value


@dataclass(frozen=True)
class EngineRequest:
    """An engine to load.

    Attributes:
        inputs_from: input name -> the engine whose output of the same name is read in place, without a copy.
        constant_inputs: inputs that are the same for many runs and are set by set_input() alone. A backend may leave
            them out of `inputs`.
        outputs_read: the outputs that the host reads; None: all. A backend may leave the others in device memory.
        threads: CPU threads of the backend; None: all cores that this process may use.
        spin: CPU threads wait for work without sleeping (ONNX Runtime).
        bf16: multiply in bf16 in an fp32 graph (OpenVINO); only on request, or where `vlj-edge tune` has measured it.
        tf32: multiply in TF32 in an fp32 graph (CUDA); likewise.
        cpu_nodes: the CPU may run the nodes for which the card has no kernel (CUDA).
        engines: a folder of TensorRT engines that were built elsewhere and that the caller trusts
            (vlj_edge/bundle/engine_cache.py).
    """

    directory: Path
    manifest: Manifest
    name: str
    inputs_from: Mapping[str, Engine] = field(default_factory=dict)
    constant_inputs: tuple[str, ...] = ()
    outputs_read: tuple[str, ...] | None = None
    threads: int | None = None
    spin: bool = False
    bf16: bool = False
    tf32: bool = False
    cpu_nodes: bool = False
    engines: Path | None = None

    @property
    def spec(self) -> EngineSpec:
        """The engine's entry in the manifest."""
        return self.manifest.engines[self.name]


def open_engine(
    directory: Path, manifest: Manifest, name: str, *, backend: str = "onnxruntime", **request: Any
) -> Engine:
    """Verify the files of one engine, then load it.

    Args:
        backend: one of BACKENDS or WITH_SETTINGS.
        request: fields of EngineRequest that have defaults.

    Raises:
        VljEdgeError: a file does not match the manifest or changes while it is loaded, its weights do not fit into
            memory, the backend is unknown, not installed, or has not the precision, it cannot load the file, or the
            file has other inputs and outputs than the manifest.
    """
    backend, settings = backend_and_settings(backend)
    load = importlib.import_module(BACKENDS[backend], __package__).load
    if backend in NO_BF16:
        manifest = manifest.for_cpu()
        if manifest.engines[name].precision == "bf16":
            raise VljEdgeError(
                f"the {name} of {directory} is in bf16, which {backend} does not run: export it for this machine with"
                " --precision fp32, or use the bundle on the card that it is for (vlj-edge build)"
            )
    with unchanged(directory, engine_sources(manifest, name)):
        engine: Engine = load(EngineRequest(directory, manifest, name, **{**request, **settings}))
    return engine


def verified_graph(request: EngineRequest) -> Path:
    """Verify the ONNX file of an engine and all files that hold its weights, and return its path.

    Raises:
        VljEdgeError: a file does not match the manifest or is not in it, the weights do not fit into memory, or the
            graph contains an operator that only TensorRT runs.
    """
    directory, manifest, file = request.directory, request.manifest, request.spec.file
    if request.spec.plugins:
        raise VljEdgeError(
            f"{directory / file} has this project's CUDA kernel in it, which TensorRT alone runs: export the bundle"
            " with --flavour native, or build it where TensorRT is (vlj-edge build)"
        )
    path, *weights = verify_graph(directory, file, manifest)
    size = sum(each.stat().st_size for each in (path, *weights))
    what = f"the {request.name} of {directory}"
    require_memory(size, what, "export it with --precision int8w or int4w, or close programs")
    return path


def backend_and_settings(name: str) -> tuple[str, dict[str, bool]]:
    """Return the backend of a name, a key of BACKENDS, and the fields of EngineRequest that the name stands for.

    Raises:
        VljEdgeError: no backend has this name; the message lists those that exist.
    """
    if name in BACKENDS:
        return name, {}
    if name in WITH_SETTINGS:
        return WITH_SETTINGS[name]
    raise WrongCall(f"no engine backend is called '{name}': choose one of {', '.join([*BACKENDS, *WITH_SETTINGS])}")


def usable_cores() -> int:
    """Return the number of cores that this process may use, at most OMP_NUM_THREADS if that is set.

    os.cpu_count() ignores taskset and the limits of containers, in cores or in time, and more threads than cores are
    slower than one.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota()
    if quota is not None:
        cores = max(1, min(cores, ceil(quota)))
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return min(cores, int(limit)) if limit.isdigit() and int(limit) else cores


def allocate(path: Path, spec: EngineSpec, shared: Mapping[str, Array]) -> tuple[dict[str, Array], dict[str, Array]]:
    """Allocate the input and output arrays of an engine in host memory, filled with zeros, and "kept" with all tokens.

    Args:
        shared: input name -> the array of another engine to use for it. An in-place output uses its input's array.

    Raises:
        VljEdgeError: a shared array or an in-place input has another shape, dtype or layout.
    """
    inputs = {tensor.name: _array_for(path, tensor, shared.get(tensor.name)) for tensor in spec.inputs}
    outputs = {
        tensor.name: _array_for(path, tensor, inputs.get(spec.in_place.get(tensor.name, ""))) for tensor in spec.outputs
    }
    keep_all_tokens(inputs)
    return inputs, outputs


def keep_all_tokens(inputs: Mapping[str, Array]) -> None:
    """Fill the input "kept", if there is one, with all tokens."""
    if KEPT in inputs:
        inputs[KEPT][...] = np.arange(inputs[KEPT].shape[-1])


def first_tokens(array: Array, tensor: TensorSpec, tokens: int | None) -> Array:
    """Return the part of an engine's array that holds its first `tokens` entries by tokens (None: all), contiguous."""
    if tensor.by_tokens is None or tokens is None:
        return array
    index = (slice(None),) * tensor.by_tokens + (slice(tokens),)
    return array[index]


def _array_for(path: Path, tensor: TensorSpec, existing: Array | None) -> Array:
    if existing is None:
        return np.zeros(tensor.shape, tensor.dtype)
    if existing.shape != tensor.shape or existing.dtype != np.dtype(tensor.dtype) or not existing.flags.c_contiguous:
        raise VljEdgeError(
            f"{path}: {tensor.name} is {tensor.dtype}{list(tensor.shape)} but would be bound to "
            f"{existing.dtype}{list(existing.shape)}: export the bundle again"
        )
    return existing
