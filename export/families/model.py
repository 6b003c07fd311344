"""What every family gives the export: modules, tokenizers and settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from vlj_edge.bundle import GateSettings, LabelSettings
from vlj_edge.presets import ModelShape

from ..models.nearest_caption import NearestCaption
from ..weights.sources import ModuleLoader
from ..weights.tokenizers import BundleTokenizers, FixedLengthTokenizer


@dataclass(frozen=True)
class FamilyModel:
    """The parts of one checkpoint.

    Attributes:
        shape: the requested one, with the dimensions of the decoder's own files where it has any.
        loaders: by engine name, so that only one module is in memory at a time.
        captions: the texts among which the decoder chooses; None for other decoders, or none.
        files: the weight files, for the receipt.
        largest: bytes of the largest part in fp32.
        directory: a vlj-edge weights directory, which may hold axes of short embeddings; None without one.
    """

    shape: ModelShape
    loaders: dict[str, ModuleLoader]
    tokenizers: BundleTokenizers
    files: tuple[Path, ...]
    largest: int
    captions: list[str] | None = None
    labels: LabelSettings = field(default_factory=LabelSettings)
    gates: GateSettings = field(default_factory=GateSettings)
    directory: Path | None = None


@torch.no_grad()
def caption_bank(
    captions: list[str], load_text_encoder: ModuleLoader, tokenizer: FixedLengthTokenizer
) -> NearestCaption:
    """Return the module that chooses the nearest caption, whose embeddings are the text encoder's."""
    encoder, embeddings = load_text_encoder(), []
    for first in range(0, len(captions), 64):
        inputs = zip(*map(tokenizer.encode, captions[first : first + 64]), strict=True)
        embeddings.append(encoder(*(torch.from_numpy(np.concatenate(each)) for each in inputs)))
    return NearestCaption(torch.cat(embeddings))
