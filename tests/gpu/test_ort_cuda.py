"""nano's engines on ONNX Runtime's CUDA provider, compared with its CPU provider."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from vlj_edge.bundle import nano_bundle, read_manifest
from vlj_edge.runtime.engines.onnxruntime import OrtEngine
from vlj_edge.runtime.engines.tensorrt.device import Device

PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")


@pytest.mark.parametrize("name", ["vision_encoder", "predictor", "text_encoder", "decoder"])
def test_the_cuda_provider_agrees_with_the_cpu(card: Device, name: str) -> None:
    if PROVIDERS[0] not in ort.get_available_providers():
        pytest.skip("this onnxruntime has no CUDA provider: pip install onnxruntime-gpu")
    spec = read_manifest(nano_bundle()).engines[name]
    path: Path = nano_bundle() / spec.file
    rng = np.random.default_rng(0)
    outputs = []
    for providers in (PROVIDERS, ("CPUExecutionProvider",)):
        engine = OrtEngine(path, spec, {}, None, providers)
        rng = np.random.default_rng(0)
        for tensor in spec.inputs:
            floating = np.issubdtype(np.dtype(tensor.dtype), np.floating)
            values = rng.normal(size=tensor.shape) * 0.5 if floating else np.ones(tensor.shape)
            engine.inputs[tensor.name][...] = 0 if tensor.name == "position" else values
        engine.run()
        engine.wait()
        outputs.append({key: array.copy() for key, array in engine.outputs.items()})
    for key, expected in outputs[1].items():
        scale = max(1.0, float(np.abs(expected.astype(np.float64)).max()))
        np.testing.assert_allclose(outputs[0][key], expected, atol=2e-3 * scale)
