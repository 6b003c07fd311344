"""Which backend runs a bundle here: the best that works, said in one line and never changed in silence."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vlj_edge.bundle import DECODER, Manifest
from vlj_edge.bundle.engine_cache import RuntimeId, find_built
from vlj_edge.errors import VljEdgeError
from vlj_edge.tensorrt_package import can_be_found, import_tensorrt, installed

from .base import backend_module
from .tensorrt.device import driver_found, open_device
from .tuning import Tuning, read_tuning

_SHARED = "; a text decoder by ONNX Runtime, since OpenVINO does not read the operators of its cache"
_ON_THE_WAY = ("vision_encoder", "predictor", DECODER)  # of a frame; a text encoder may be left unbuilt


@dataclass(frozen=True)
class SelectedBackend:
    """A name of engine.BACKENDS, the line that says why, and what `vlj-edge tune` found best for it, if it was run."""

    name: str
    line: str
    tuning: Tuning | None = None


def select_backend(
    directory: Path, manifest: Manifest, insisted: str | None = None, engines: Path | None = None
) -> SelectedBackend:
    """TensorRT where it works and the bundle's engines were built for this card; otherwise what `vlj-edge tune` found
    best on this CPU, and ONNX Runtime where it was not run.

    Args:
        insisted: a backend that the caller wants whatever there is.
        engines: a folder of built engines; naming one is asking for TensorRT.

    Raises:
        VljEdgeError: no backend has that name, TensorRT is installed on a machine with a card and does not work, or it
            lacks engines and ONNX Runtime is not installed.
    """
    if insisted is not None:
        backend_module(insisted)
        if engines is not None and insisted != "tensorrt":
            raise VljEdgeError(f"--engines names TensorRT engines, which {insisted} does not run: leave one out")
        return _on_the_cpu(directory, manifest, insisted, "as asked for")
    if engines is not None:
        return SelectedBackend("tensorrt", f"TensorRT, with the engines in {engines}")
    if not installed():
        return _on_the_cpu(directory, manifest, None, "TensorRT is not installed")
    if not driver_found():  # such as a machine that only builds ahead of time
        return _on_the_cpu(directory, manifest, None, "there is no NVIDIA driver for TensorRT to run on")
    trt, device = import_tensorrt(), open_device()
    here = RuntimeId(trt.package, trt.version, device.sm, device.name)
    try:
        for name in (name for name in _ON_THE_WAY if name in manifest.engines):
            find_built(directory, manifest, name, here)
    except VljEdgeError as error:
        if not can_be_found("onnxruntime"):  # JetPack 6: nothing else could run it
            raise
        return _on_the_cpu(directory, manifest, None, f"{trt.package} {trt.version} is here, but {error}")
    return SelectedBackend("tensorrt", f"{trt.package} {trt.version} on {device.name}")


def _on_the_cpu(directory: Path, manifest: Manifest, insisted: str | None, why: str) -> SelectedBackend:
    """ONNX Runtime or OpenVINO: what was insisted on, or what was measured. `insisted` may be TensorRT as well."""
    tuning = read_tuning(directory, manifest) if insisted != "tensorrt" else None
    if insisted is not None:
        if tuning is not None and tuning.backend != insisted:
            tuning = None
        return SelectedBackend(insisted, f"{insisted}, {why}{_SHARED if insisted == 'openvino' else ''}", tuning)
    if tuning is not None and tuning.backend == "openvino":
        how = "in bf16" if tuning.bf16 else "in the bundle's precision"
        return SelectedBackend(
            "openvino", f"OpenVINO on the CPU {how}, as vlj-edge tune measured: {why}{_SHARED}", tuning
        )
    return SelectedBackend("onnxruntime", f"ONNX Runtime on the CPU: {why}", tuning)
