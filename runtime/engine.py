"""Engines: named buffers that are allocated once, and run().

A backend is one folder with a module that has `load(path, spec, shared, threads)`, and one line in BACKENDS.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from vlj_edge.bundle import EngineSpec, Manifest, TensorSpec, verify_file
from vlj_edge.errors import VljEdgeError
from vlj_edge.memory import require_memory

Array: TypeAlias = npt.NDArray[Any]

BACKENDS = {
    "onnxruntime": ".ort.engine",
}


class Engine(Protocol):
    """One loaded engine.

    Write into `inputs`, call run(), read `outputs`: the arrays stay the same objects for the engine's whole life and
    have the shapes and dtypes of the manifest. An output that EngineSpec.in_place names is its input's own array.
    """

    inputs: dict[str, Array]
    outputs: dict[str, Array]

    def run(self) -> None:
        """Compute the outputs from what the inputs hold now.

        Raises:
            VljEdgeError: the backend failed.
        """


def open_engine(
    directory: Path,
    manifest: Manifest,
    name: str,
    *,
    shared: Mapping[str, Array] | None = None,
    backend: str = "onnxruntime",
    threads: int | None = None,
) -> Engine:
    """Verify one engine's files against the manifest, then load it.

    Args:
        shared: input name -> array to read from in place of one of its own: another engine's output, so that nothing
            is copied between the two.
        threads: CPU threads of the backend; None: as many as this process may use.

    Raises:
        VljEdgeError: a file is not the one that was sealed, its weights alone would not fit into memory, the backend is
            unknown or not installed, it cannot load the file, or the file does not have the inputs and outputs of the
            manifest.
    """
    adapter = backend_module(backend)
    spec = manifest.engines[name]
    path = verify_file(directory, spec.file, manifest)
    weights = spec.file + ".data"
    size = path.stat().st_size
    # Present but not listed: verify_file refuses it, or unsigned weights would be read behind a signed graph.
    if weights in manifest.files or (directory / weights).exists():
        size += verify_file(directory, weights, manifest).stat().st_size
    require_memory(size, f"the {name} of {directory}", "export it with --precision int8w or int4w, or close programs")
    engine: Engine = importlib.import_module(adapter, __package__).load(path, spec, shared or {}, threads)
    return engine


def backend_module(backend: str) -> str:
    """The module of a backend, by its name.

    Raises:
        VljEdgeError: no backend has this name; the message lists those that exist.
    """
    if backend not in BACKENDS:
        raise VljEdgeError(f"no engine backend is called '{backend}': choose one of {', '.join(BACKENDS)}")
    return BACKENDS[backend]


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
