"""The modules of a V-JEPA 2 classifier from its tensors."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from torch import nn

from vlj_edge.errors import VljEdgeError
from vlj_edge.presets import ModelShape
from vlj_edge.presets import VisionEncoder as Config

from ..models.label_head import LabelHead, PooledEncoder
from ..models.vision_encoder import VisionEncoder
from ..weights.checkpoints import from_transformers_vjepa
from ..weights.files import State, read_transformers
from ..weights.shapes import describe_differences, shapes
from .loading import transformers_class


def load_pooled_encoder(directory: Path, vision: Config, shape: ModelShape) -> nn.Module:
    """Load the encoder, a module of this project, and transformers' own pooler."""
    _, state = read_transformers(directory)
    encoder = VisionEncoder(vision, shape.clip, shape.preprocess)
    _load(directory, encoder, from_transformers_vjepa(_part(state, "vjepa2."), vision.layers))
    pooler = _pooler(directory)
    _load(directory, pooler, _part(state, "pooler."))
    return PooledEncoder(encoder, pooler).eval().requires_grad_(False)


def load_head(directory: Path, shape: ModelShape) -> nn.Module:
    """Load the last layer."""
    _, state = read_transformers(directory)
    classifier = nn.Linear(shape.embedding - 1, len(shape.labels))
    _load(directory, classifier, _part(state, "classifier."))
    return LabelHead(classifier).eval().requires_grad_(False)


def _pooler(directory: Path) -> Any:
    kind = transformers_class("VJEPA2ForVideoClassification", "5.0")
    config = transformers_class("VJEPA2Config", "5.0").from_pretrained(directory, local_files_only=True)
    config._attn_implementation = "sdpa"
    return importlib.import_module(kind.__module__).VJEPA2AttentivePooler(config)


def _load(directory: Path, module: nn.Module, state: State) -> None:
    if differences := describe_differences(shapes(module.state_dict()), shapes(state)):
        raise VljEdgeError(f"{directory} does not hold what its config.json says ({differences}): download it again")
    module.load_state_dict({key: value.float() for key, value in state.items()}, assign=True)


def _part(state: State, prefix: str) -> State:
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
