"""Choose the backend that runs a bundle on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vlj_edge.bundle import DECODER, Manifest
from vlj_edge.bundle.engine_cache import RuntimeId, find_engine
from vlj_edge.errors import VljEdgeError, WrongCall
from vlj_edge.tensorrt_package import import_tensorrt, installed, is_installed

from .base import backend_module
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
    """

    name: str
    description: str
    reason: str
    warning: str | None = None
    tuning: Tuning | None = None


def select_backend(
    directory: Path, manifest: Manifest, requested: str | None = None, engines: Path | None = None
) -> SelectedBackend:
    """Select TensorRT if it works and the bundle has engines for this card, else what `vlj-edge tune` found fastest on
    this CPU, else ONNX Runtime.

    Args:
        requested: use this backend; None: choose one.
        engines: a folder of built TensorRT engines; implies TensorRT.

    Raises:
        VljEdgeError: no backend has that name, TensorRT is installed on a machine with a card but does not work, or
            the bundle has no engines for it and ONNX Runtime is not installed.
    """
    if requested is not None:
        backend_module(requested)
        if engines is not None and requested != "tensorrt":
            raise WrongCall(f"--engines names TensorRT engines, which {requested} does not run: leave one out")
        tuning = read_tuning(directory, manifest) if requested != "tensorrt" else None
        if tuning is not None and tuning.backend != requested:
            tuning = None
        return SelectedBackend(requested, _DESCRIPTIONS[requested], "as requested", tuning=tuning)
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


def _select_on_cpu(directory: Path, manifest: Manifest, reason: str, warning: str | None = None) -> SelectedBackend:
    """OpenVINO if `vlj-edge tune` measured that it is the fastest, else ONNX Runtime."""
    tuning = read_tuning(directory, manifest)
    name = "onnxruntime"
    if tuning is not None:
        name = tuning.backend
        reason = f"vlj-edge tune found it fastest{' with bf16' if tuning.bf16 else ''}; {reason}"
    return SelectedBackend(name, _DESCRIPTIONS[name], reason, warning, tuning)
