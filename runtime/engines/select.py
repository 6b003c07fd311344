"""Choose the backend that runs a bundle on this machine."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vlj_edge.bundle import DECODER, Manifest
from vlj_edge.bundle.engine_cache import RuntimeId, find_engine
from vlj_edge.errors import VljEdgeError, WrongCall
from vlj_edge.tensorrt_package import import_tensorrt, installed, is_installed

from . import cuda_check
from .base import WITH_SETTINGS, backend_and_settings
from .tensorrt.device import driver_found, open_device
from .tuning import Tuning, read_tuning

_DESCRIPTIONS = {
    "onnxruntime": "ONNX Runtime on the CPU",
    # OpenVINO does not read the operators of a text decoder's cache.
    "openvino": "OpenVINO on the CPU, a text decoder by ONNX Runtime",
    "tensorrt": "TensorRT",
}
_ENGINES_OF_A_FRAME = ("vision_encoder", "predictor", DECODER)  # must be built; only the text encoder may be missing


@dataclass(frozen=True)
class SelectedBackend:
    """The backend that runs a bundle.

    Attributes:
        name: a key of BACKENDS in base.py.
        description: the backend and the device, such as "ONNX Runtime on the CPU".
        reason: why this backend was chosen.
        warning: set if a faster backend works on this machine but the bundle has no engines for it.
        tuning: settings that `vlj-edge tune` measured for this bundle on this machine; None if it was not run.
        settings: fields of EngineRequest that were requested with the backend.
    """

    name: str
    description: str
    reason: str
    warning: str | None = None
    tuning: Tuning | None = None
    settings: dict[str, bool] = field(default_factory=dict)

    @property
    def requested(self) -> str:
        """The name that asks for this backend with these settings."""
        found = [each for each, meant in WITH_SETTINGS.items() if meant == (self.name, self.settings)]
        return found[0] if found else self.name

    @property
    def cuda_graph(self) -> bool:
        """Whether an engine's run is one CUDA graph."""
        return self.name == "tensorrt" or (self.name == "cuda" and not self.settings.get("cpu_nodes"))

    def engine_options(self, threads: int | None, engines: Path | None) -> dict[str, Any]:
        """Return fields of EngineRequest, and "backend".

        Args:
            threads: CPU threads; None: what was measured to be fastest, otherwise all.
            engines: a folder of built TensorRT engines.
        """
        options: dict[str, Any] = {"backend": self.name, "threads": threads, "engines": engines}
        if self.tuning is not None:
            options |= {"bf16": self.tuning.bf16, "tf32": self.tuning.tf32}
            if threads is None:
                options |= {"threads": self.tuning.threads, "spin": self.tuning.spin}
        return options | self.settings


def select_backend(
    directory: Path, manifest: Manifest, requested: str | None = None, engines: Path | None = None
) -> SelectedBackend:
    """Select TensorRT if it works and the bundle has engines for this card, else what `vlj-edge tune` found fastest on
    this machine, else ONNX Runtime on the CPU.

    Args:
        requested: use this backend, a key of BACKENDS or WITH_SETTINGS in base.py; None: choose one.
        engines: a folder of built TensorRT engines; implies TensorRT.

    Raises:
        VljEdgeError: no backend has that name, CUDA was requested and cannot run here, TensorRT is installed on a
            machine with a card but does not work, or the bundle has no engines for it and ONNX Runtime is missing.
    """
    if requested is not None:
        return _select_requested(directory, manifest, requested, engines)
    if engines is not None:
        return SelectedBackend("tensorrt", "TensorRT", f"with the engines in {engines}")
    if not installed():
        return _select_on_cpu(directory, manifest, "TensorRT is not installed")
    if not driver_found():  # such as a machine that only builds ahead of time
        return _select_on_cpu(directory, manifest, "there is no NVIDIA driver for TensorRT to run on")
    trt, device = import_tensorrt(), open_device()
    runtime = RuntimeId(trt.package, trt.version, device.sm, device.name)
    try:
        for name in (name for name in _ENGINES_OF_A_FRAME if name in manifest.engines):
            find_engine(directory, manifest, name, runtime)
    except VljEdgeError as error:
        if not is_installed("onnxruntime"):  # as on JetPack 6: no other backend
            raise
        warning = f"{trt.package} {trt.version} works on this machine, but {error}"
        return _select_on_cpu(directory, manifest, "there are no TensorRT engines for this card", warning)
    return SelectedBackend("tensorrt", f"{trt.package} {trt.version} on {device.name}", "its engines are built")


def _select_requested(directory: Path, manifest: Manifest, requested: str, engines: Path | None) -> SelectedBackend:
    name, settings = backend_and_settings(requested)
    if engines is not None and name != "tensorrt":
        raise WrongCall(f"--engines names TensorRT engines, which {requested} does not run: leave one out")
    tuning = read_tuning(directory, manifest) if name != "tensorrt" else None
    if tuning is not None and tuning.backend != name:
        tuning = None
    if name != "cuda":
        bf16 = settings.get("bf16", tuning is not None and tuning.bf16)
        return SelectedBackend(name, _description(name, bf16), "as requested", tuning=tuning, settings=settings)
    try:
        card = cuda_check.find_card()
    except VljEdgeError as error:
        if not settings.get("cpu_nodes"):
            raise
        warning = f"the CPU runs everything, as --backend {requested} allows: {error}"
        return SelectedBackend("onnxruntime", _DESCRIPTIONS["onnxruntime"], "CUDA cannot run here", warning)
    tf32 = settings.get("tf32", tuning is not None and tuning.tf32)
    said = _cuda_description(manifest, card, tf32, settings.get("cpu_nodes", False))
    return SelectedBackend(name, said, "as requested", tuning=tuning, settings=settings)


def _select_on_cpu(directory: Path, manifest: Manifest, reason: str, warning: str | None = None) -> SelectedBackend:
    """What `vlj-edge tune` measured to be the fastest without built engines, else ONNX Runtime on the CPU."""
    tuning = read_tuning(directory, manifest)
    if tuning is None:
        return SelectedBackend("onnxruntime", _DESCRIPTIONS["onnxruntime"], reason, warning or _untried(directory))
    arithmetic = " with bf16" if tuning.bf16 else " with TF32" if tuning.tf32 else ""
    reason = f"vlj-edge tune found it fastest{arithmetic}; {reason}"
    if tuning.backend != "cuda":
        return SelectedBackend(tuning.backend, _description(tuning.backend, tuning.bf16), reason, warning, tuning)
    try:
        said = _cuda_description(manifest, cuda_check.find_card(), tuning.tf32, False)
    except VljEdgeError as error:
        gone = f"vlj-edge tune chose cuda, which cannot run now ({error}): ONNX Runtime runs on the CPU"
        return SelectedBackend("onnxruntime", _DESCRIPTIONS["onnxruntime"], "CUDA cannot run here", gone)
    return SelectedBackend("cuda", said, reason, warning, tuning)


def _untried(directory: Path) -> str | None:
    """Return a hint where CUDA is installed and could run, and nobody has asked for it."""
    if not is_installed("onnxruntime") or not driver_found() or not cuda_check.has_provider():
        return None
    return (
        f"onnxruntime-gpu is installed and ONNX Runtime runs on the CPU: vlj-edge tune {directory} tries CUDA,"
        " --backend cuda asks for it"
    )


def _description(name: str, bf16: bool) -> str:
    return f"{_DESCRIPTIONS[name]}{', products in bf16' if bf16 else ''}"


def _cuda_description(manifest: Manifest, card: str, tf32: bool, cpu_nodes: bool) -> str:
    """Return the backend, the card, and how it multiplies."""
    precisions = [manifest.for_cpu().engines[name].precision for name in manifest.engines]
    half, whole = ("fp16" in precision for precision in precisions), ("fp16" not in each for each in precisions)
    how = [*(["fp16"] if any(half) else []), *([f"fp32 {'in' if tf32 else 'without'} TF32"] if any(whole) else [])]
    graph = "nodes without a CUDA kernel on the CPU" if cpu_nodes else "one CUDA graph an engine"
    return f"ONNX Runtime with CUDA on {card}, {' and '.join(how)}, {graph}"
