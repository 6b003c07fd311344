"""Targets as data: settings of an export and a build for a board, a graphics card or a battery."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .bundle import GateSettings
from .errors import VljEdgeError, WrongCall


@dataclass(frozen=True)
class Target:
    """Settings for one kind of device.

    Attributes:
        description: one line.
        backend: "onnxruntime", or "tensorrt" for both TensorRT packages.
        sm: compute capability of its card ("sm87"); None: that of the card in the machine. TensorRT builds on the
            device only; TensorRT-RTX also builds ahead of time for a named compute capability.
        precision: as `vlj-edge export --precision` takes it.
        flavour: of the ONNX graphs.
        shapes: "frames" and "size" in place of the preset's.
        decoder: whether to make a decoder engine.
        workspace_mb: most scratch memory in MB that an engine may use; None: TensorRT's own limit.
        gates: {gate: {setting: value}} in place of those calibrated with the weights.
    """

    name: str
    description: str
    backend: str
    sm: str | None = None
    precision: str = "fp32"
    flavour: str = "native"
    shapes: Mapping[str, int] = field(default_factory=dict)
    decoder: bool = True
    workspace_mb: int | None = None
    gates: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def on_board(self) -> bool:
        """Whether its engines can only be built on the board itself, as TensorRT's on a Jetson."""
        return self.name.startswith("jetson")


# bf16 for the text encoder: EmbeddingGemma's activations exceed fp16's range, and every card from sm80 has bf16.
# JetPack 6 has TensorRT 10.3, which knows no operator of opset 23, hence the portable flavour.
_FP16 = "fp16,text_encoder=bf16"
TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        # int8 pays in the encoder alone: results/precisions.json.
        Target("cpu", "any machine, ONNX Runtime", "onnxruntime", precision="fp32,vision_encoder=int8"),
        Target("rtx", "GeForce and RTX cards, TensorRT-RTX", "tensorrt", precision=_FP16),
        Target(
            "jetson-orin-nano",
            "Jetson Orin Nano and NX 8 GB, JetPack 6 (TensorRT 10.3)",
            "tensorrt",
            sm="sm87",
            precision=_FP16,
            flavour="portable",
            workspace_mb=512,  # 8 GB are shared with the system, the camera and a builder that takes 4 x the weights
            gates={"memory": {"capacity": 128}},
        ),
        Target(
            "jetson-orin",
            "Jetson AGX Orin and NX 16 GB, JetPack 6 (TensorRT 10.3)",
            "tensorrt",
            sm="sm87",
            precision=_FP16,
            flavour="portable",
            workspace_mb=2048,
        ),
        Target("jetson-thor", "Jetson Thor, JetPack 7 (TensorRT 10.13 and later)", "tensorrt", "sm110", _FP16),
        Target(
            "wearable",
            "a battery and 200 MB: embeddings on the CPU, no decoder",
            "onnxruntime",
            precision="fp32,vision_encoder=int8",
            decoder=False,
            gates={"memory": {"enabled": False}},
        ),
    )
}


def target(name: str) -> Target:
    """Return the target of this name; "sm86" and the like stand for an RTX card of that compute capability.

    Raises:
        VljEdgeError: no such target; the message lists those that exist.
    """
    if name in TARGETS:
        return TARGETS[name]
    if re.fullmatch(r"sm\d{2,3}", name):
        return replace(TARGETS["rtx"], name=name, description=f"a card of compute capability {name}", sm=name)
    raise WrongCall(f"no target is called '{name}': choose one of {', '.join(TARGETS)}, or sm86, sm89, sm120 ...")


def with_gates(gates: GateSettings, target: Target) -> GateSettings:
    """Return `gates` with the settings of a target in place of their own.

    Raises:
        VljEdgeError: the target names a gate or setting that does not exist.
    """
    for name, settings in target.gates.items():
        try:
            gates = replace(gates, **{name: replace(getattr(gates, name), **settings)})
        except (AttributeError, TypeError) as error:
            raise VljEdgeError(f"target {target.name} has an unknown gate setting ({error}): report this") from error
    return gates
