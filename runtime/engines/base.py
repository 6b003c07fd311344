"""Engines: named buffers that are allocated once, run(), and wait().

A backend is one folder with a module that has `load(wanted)`, and one line in BACKENDS.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from vlj_edge.bundle import EngineSpec, Manifest, TensorSpec, verify_file
from vlj_edge.errors import VljEdgeError
from vlj_edge.memory import require_memory

Array: TypeAlias = npt.NDArray[Any]

BACKENDS = {
    "onnxruntime": ".onnxruntime",
    "openvino": ".openvino",
    "tensorrt": ".tensorrt.engine",
}


class Engine(Protocol):
    """One loaded engine.

    Write into `inputs`, call run(), then wait(), read `outputs`: the arrays stay the same objects for the engine's
    whole life and have the shapes and dtypes of the manifest. They hold what the host gives and reads; what engines
    pass to each other may lie elsewhere.
    """

    inputs: dict[str, Array]
    outputs: dict[str, Array]

    def run(self) -> None:
        """Compute the outputs from what the inputs hold now. May return before it is done; runs keep their order, also
        those of other engines of the process, and the inputs may be written again only after wait().

        Raises:
            VljEdgeError: the backend failed.
        """

    def wait(self) -> None:
        """Return when `outputs` hold what the last run made.

        Raises:
            VljEdgeError: the backend failed.
        """

    def interrupt(self) -> None:
        """Make a run() that another thread is in fail soon, where the backend can; otherwise do nothing."""

    def keep(self, output: str) -> object | None:
        """Put an output by where it was made, for give() of another engine, however much later. Between run() and
        wait(). None: there is no place for it, or the host's copy is as near.

        Raises:
            VljEdgeError: the backend failed.
        """

    def give(self, name: str, value: object) -> None:
        """Set an input that was `given`, for all runs from now on: an array, or what keep() returned.

        Raises:
            VljEdgeError: the backend failed.
        """


class HostMemoryEngine:
    """What an engine need not do whose run() waits, and whose tensors all lie in the host's memory. See Engine."""

    inputs: dict[str, Array]
    outputs: dict[str, Array]

    def wait(self) -> None:
        """See Engine.wait: run() has waited."""

    def interrupt(self) -> None:
        """See Engine.interrupt."""

    def keep(self, output: str) -> None:
        """See Engine.keep: the host's copy is the only one."""

    def give(self, name: str, value: object) -> None:
        """See Engine.give."""
        self.inputs[name][...] = value


@dataclass(frozen=True)
class EngineRequest:
    """An engine to load.

    Attributes:
        inputs_from: input -> the engine whose output of this name is read where it lies.
        given: inputs that are set by give() alone, because they stay for many runs. A backend may leave them out of
            `inputs`.
        outputs_read: the outputs that the host reads, None: all. A backend may leave the others where they were made.
        threads: CPU threads of the backend; None: as many as this process may use.
        spin: CPU threads wait for work without sleeping (ONNX Runtime).
        bf16: products of an fp32 graph in bf16 (OpenVINO); only `vlj-edge tune` asks for it, where it was measured.
        engines: a folder of built engines from elsewhere that the caller trusts (vlj_edge/bundle/engine_cache.py).
    """

    directory: Path
    manifest: Manifest
    name: str
    inputs_from: Mapping[str, Engine] = field(default_factory=dict)
    given: tuple[str, ...] = ()
    outputs_read: tuple[str, ...] | None = None
    threads: int | None = None
    spin: bool = False
    bf16: bool = False
    engines: Path | None = None

    @property
    def spec(self) -> EngineSpec:
        """What the manifest says of it."""
        return self.manifest.engines[self.name]


def open_engine(
    directory: Path, manifest: Manifest, name: str, *, backend: str = "onnxruntime", **wanted: Any
) -> Engine:
    """Verify one engine's files, then load it. `wanted`: the fields of Wanted that have defaults.

    Raises:
        VljEdgeError: a file is not the one that was sealed, its weights alone would not fit into memory, the backend is
            unknown or not installed, it cannot load the file, or the file does not have the inputs and outputs of the
            manifest.
    """
    load = importlib.import_module(backend_module(backend), __package__).load
    engine: Engine = load(EngineRequest(directory, manifest, name, **wanted))
    return engine


def verified_graph(wanted: EngineRequest) -> Path:
    """The ONNX file of an engine, once it and its weights were found to be those that were exported.

    Raises:
        VljEdgeError: they are not, would not fit into memory, or hold what TensorRT alone can run.
    """
    directory, manifest, file = wanted.directory, wanted.manifest, wanted.spec.file
    if wanted.spec.plugins:
        raise VljEdgeError(
            f"{directory / file} has this project's CUDA kernel in it, which TensorRT alone runs: export the bundle"
            " with --flavour native, or build it where TensorRT is (vlj-edge build)"
        )
    path = verify_file(directory, file, manifest)
    weights = file + ".data"
    size = path.stat().st_size
    # Present but not listed: verify_file refuses it, or unsigned weights would be read behind a signed graph.
    if weights in manifest.files or (directory / weights).exists():
        size += verify_file(directory, weights, manifest).stat().st_size
    what = f"the {wanted.name} of {directory}"
    require_memory(size, what, "export it with --precision int8w or int4w, or close programs")
    return path


def backend_module(backend: str) -> str:
    """The module of a backend, by its name.

    Raises:
        VljEdgeError: no backend has this name; the message lists those that exist.
    """
    if backend not in BACKENDS:
        raise VljEdgeError(f"no engine backend is called '{backend}': choose one of {', '.join(BACKENDS)}")
    return BACKENDS[backend]


def usable_cores() -> int:
    """Return the number of cores that this process may use, at most OMP_NUM_THREADS if that is set.

    os.cpu_count() ignores taskset and container limits, and more threads than cores are slower than one.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return min(cores, int(limit)) if limit.isdigit() and int(limit) else cores


def allocate(path: Path, spec: EngineSpec, shared: Mapping[str, Array]) -> tuple[dict[str, Array], dict[str, Array]]:
    """The input and output arrays of an engine in host memory: zeros, `shared` inputs, in-place outputs aliased.

    Raises:
        VljEdgeError: a shared array or an in-place pair does not fit.
    """
    inputs = {tensor.name: _fitting(path, tensor, shared.get(tensor.name)) for tensor in spec.inputs}
    outputs = {
        tensor.name: _fitting(path, tensor, inputs.get(spec.in_place.get(tensor.name, ""))) for tensor in spec.outputs
    }
    return inputs, outputs


def _fitting(path: Path, tensor: TensorSpec, given: Array | None) -> Array:
    if given is None:
        return np.zeros(tensor.shape, tensor.dtype)
    if given.shape != tensor.shape or given.dtype != np.dtype(tensor.dtype) or not given.flags.c_contiguous:
        raise VljEdgeError(
            f"{path}: {tensor.name} is {tensor.dtype}{list(tensor.shape)} but would be bound to "
            f"{given.dtype}{list(given.shape)}: export the bundle again"
        )
    return given
