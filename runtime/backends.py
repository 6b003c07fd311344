"""Which backend runs a bundle here: the best that works, said in one line and never changed in silence."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vlj_edge.built import RuntimeId, find_built
from vlj_edge.bundle import OPTIONAL, Manifest
from vlj_edge.errors import VljEdgeError
from vlj_edge.trt import can_be_found, import_tensorrt, installed

from .engine import backend_module
from .tensorrt.device import driver_found, open_device

_ON_THE_WAY = ("vision_encoder", "predictor", OPTIONAL)  # of a frame; a text encoder may be left unbuilt


@dataclass(frozen=True)
class Chosen:
    """A name of engine.BACKENDS, and the line that says why."""

    name: str
    line: str


def choose(directory: Path, manifest: Manifest, insisted: str | None = None, engines: Path | None = None) -> Chosen:
    """TensorRT where it works and the bundle's engines were built for this card; otherwise ONNX Runtime.

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
        return Chosen(insisted, f"{insisted}, as asked for")
    if engines is not None:
        return Chosen("tensorrt", f"TensorRT, with the engines in {engines}")
    if not installed():
        return Chosen("onnxruntime", "ONNX Runtime on the CPU: TensorRT is not installed")
    if not driver_found():  # such as a machine that only builds ahead of time
        return Chosen("onnxruntime", "ONNX Runtime on the CPU: there is no NVIDIA driver for TensorRT to run on")
    trt, device = import_tensorrt(), open_device()
    here = RuntimeId(trt.package, trt.version, device.sm, device.name)
    try:
        for name in (name for name in _ON_THE_WAY if name in manifest.engines):
            find_built(directory, manifest, name, here)
    except VljEdgeError as error:
        if not can_be_found("onnxruntime"):  # JetPack 6: nothing else could run it
            raise
        return Chosen("onnxruntime", f"ONNX Runtime on the CPU, though {trt.package} {trt.version} is here: {error}")
    return Chosen("tensorrt", f"{trt.package} {trt.version} on {device.name}")
