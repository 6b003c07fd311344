"""SigLIP 2 NaFlex at one square grid of patches, compared with transformers' Siglip2Model, given that grid unmasked.

NaFlex reads pictures of any shape in up to `max_num_patches` patches. A bundle's frames have one shape: the largest
square of so many patches, to which the whole frame is squashed, as for SigLIP. All else is as in siglip.py.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from vlj_edge.presets import ModelShape

from ..weights.locations import WeightSources
from .checkpoint import Checkpoint, read_preprocess, read_processor
from .clips import image_clip
from .siglip import open_siglip, text_encoder

if TYPE_CHECKING:
    from torch import nn

    from .model import FamilyModel

ARCHITECTURES = ("Siglip2Model",)


def read_shape(checkpoint: Checkpoint, frames: int | None) -> ModelShape:
    """Return the shape, from config.json and the processor's file."""
    vision = checkpoint.part("vision_config")
    patch, width = checkpoint.number(vision, "patch_size", 16), checkpoint.number(vision, "hidden_size", 768)
    most = checkpoint.number(read_processor(checkpoint)[1], "max_num_patches", 256)
    side, half = math.isqrt(most) * patch, (0.5, 0.5, 0.5)
    square = {"size": {"height": side, "width": side}}  # its processor computes one for each picture
    defaults = {"resample": 2, "image_mean": half, "image_std": half}
    return ModelShape(
        name="siglip2-naflex",
        family="siglip2-naflex",
        embedding=width,
        preprocess=read_preprocess(checkpoint, side, defaults, square),
        clip=image_clip(frames),
        text=text_encoder(checkpoint),
    )


def open_model(sources: WeightSources, shape: ModelShape) -> FamilyModel:
    """Open both towers.

    Raises:
        VljEdgeError: a file is missing or broken.
    """
    from .naflex_tower import NaflexTower

    def as_tower(tower: nn.Module) -> nn.Module:
        return NaflexTower(tower, shape.preprocess.crop).eval().requires_grad_(False)

    return open_siglip(sources, shape, "Siglip2VisionModel", as_tower)
