"""Weights on disk -> a model in memory, every key and shape checked, nothing unpickled.

A vlj-edge weights directory holds `model.safetensors` (state dict of VLJepa), `query_tokenizer.json` and
`decoder_tokenizer.json`; `text_encoder/` may hold the text backbone as a transformers directory.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from vlj_edge.errors import VljEdgeError
from vlj_edge.presets import Preset

from .checkpoint_files import read_safetensors
from .models import VLJepa
from .text_backbones import TextBackbone, load_text_backbone

MODEL_FILE = "model.safetensors"
QUERY_TOKENIZER = "query_tokenizer.json"
DECODER_TOKENIZER = "decoder_tokenizer.json"


@dataclass(frozen=True)
class LoadedWeights:
    """All that an export needs: the model in fp32, the text backbone, and where the tokenizers lie."""

    model: VLJepa
    text_backbone: TextBackbone
    directory: Path


def shipped_weights() -> Path:
    """The nano weights inside the package, which are exported when none are named."""
    return Path(__file__).parent / "nano"


def load_weights(directory: Path, preset: Preset) -> LoadedWeights:
    """Read a vlj-edge weights directory.

    Raises:
        VljEdgeError: a file is missing, or keys or shapes are not those of the preset (each is listed).
    """
    if directory.is_file():
        directory = directory.parent if directory.name == MODEL_FILE else directory
    for name in (MODEL_FILE, QUERY_TOKENIZER, DECODER_TOKENIZER):
        if not (directory / name).is_file():
            raise VljEdgeError(f"{directory} has no {name}: name a directory that examples/train_nano/train.py wrote")
    state = read_safetensors(directory / MODEL_FILE)
    with torch.device("meta"):
        expected = {key: value.shape for key, value in VLJepa(preset).state_dict().items()}
    _check_keys(directory / MODEL_FILE, preset.name, expected, state)
    model = VLJepa(preset)
    model.load_state_dict({key: value.float() for key, value in state.items()})
    own_text = directory / "text_encoder"
    backbone = load_text_backbone(preset.text.backbone, own_text if own_text.is_dir() else None)
    return LoadedWeights(model.eval().requires_grad_(False), backbone, directory)


def _check_keys(path: Path, preset: str, expected: dict[str, torch.Size], found: dict[str, Tensor]) -> None:
    missing = sorted(expected.keys() - found.keys())
    unexpected = sorted(found.keys() - expected.keys())
    misshapen = [
        f"{key} {tuple(found[key].shape)} instead of {tuple(expected[key])}"
        for key in sorted(expected.keys() & found.keys())
        if found[key].shape != expected[key]
    ]
    faults = [
        f"{what}: {_some(names)}"
        for what, names in (("missing", missing), ("unexpected", unexpected), ("wrong shape", misshapen))
        if names
    ]
    if faults:
        raise VljEdgeError(
            f"{path} does not fit preset {preset} ({'; '.join(faults)}): name the preset it was made for"
        )


def _some(names: list[str], most: int = 4) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
