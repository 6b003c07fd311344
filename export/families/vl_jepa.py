"""VL-JEPA: nano, and the presets whose parts are V-JEPA 2, layers of Llama and a sentence encoder.

Its directories hold vlj-edge's own names of tensors (weights/locations.py), so it has no config.json to be found by.
"""

from __future__ import annotations

import torch

from vlj_edge.presets import ModelShape, Preset

from ..calibrated import read_gates, read_labels
from ..models import VLJepa
from ..weights.locations import WeightSources
from ..weights.sources import open_weights
from ..weights.tokenizers import bundle_tokenizers
from .model import FamilyModel


def open_model(sources: WeightSources, shape: ModelShape) -> FamilyModel:
    """Open the weights of every part, and check all keys and shapes.

    Raises:
        VljEdgeError: as weights.sources.open_weights().
    """
    assert isinstance(shape, Preset)
    weights = open_weights(sources, shape)
    with torch.device("meta"):
        parts = VLJepa(weights.preset).children()
        largest = max(sum(p.numel() for p in part.parameters()) for part in parts)
    found = bundle_tokenizers(weights)
    if weights.captions is not None and sources.captions is not None:
        found["text_encoder"].check(weights.captions, sources.captions)
    return FamilyModel(
        shape=weights.preset,
        loaders=weights.loaders,
        tokenizers=found,
        files=weights.files,
        largest=4 * largest,
        captions=weights.captions,
        labels=read_labels(weights.directory),
        gates=read_gates(weights.directory),
        directory=weights.directory,
    )
