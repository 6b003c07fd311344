"""SigLIP, and SigLIP 2 of fixed resolution, compared with transformers' SiglipModel.

It knows single images: a clip's embedding is the mean of its frames' unit embeddings, scaled to unit length. Scores are
independent of each other: sigmoid(cosine * exp(logit_scale) + logit_bias), so none of the labels may apply.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from vlj_edge.presets import ModelShape, TextEncoder

from ..weights.locations import WeightSources
from .checkpoint import Checkpoint, read_preprocess
from .clips import image_clip

if TYPE_CHECKING:
    from torch import nn

    from vlj_edge.bundle import LabelSettings

    from .model import FamilyModel

ARCHITECTURES = ("SiglipModel",)
_SINCE = "5.0"  # of transformers
# The score below which a search finds nothing. A right text often has less than 0.5, below which classify says "none of
# these": "a photo of 2 cats" has 0.32 in transformers' own example.
_SEARCHED = 0.02


def read_shape(checkpoint: Checkpoint, frames: int | None) -> ModelShape:
    """Return the shape, from config.json and the processor's file."""
    vision = checkpoint.part("vision_config")
    side, width = checkpoint.number(vision, "image_size", 224), checkpoint.number(vision, "hidden_size", 768)
    half = (0.5, 0.5, 0.5)
    processor = {"size": {"height": side, "width": side}, "resample": 3, "image_mean": half, "image_std": half}
    return ModelShape(
        name="siglip",
        family="siglip",
        embedding=width,
        preprocess=read_preprocess(checkpoint, side, processor),
        clip=image_clip(frames),
        text=text_encoder(checkpoint),
    )


def text_encoder(checkpoint: Checkpoint) -> TextEncoder:
    """Return the text tower's dimensions."""
    text = checkpoint.part("text_config")
    width, tokens = (
        checkpoint.number(text, "hidden_size", 768),
        checkpoint.number(text, "max_position_embeddings", 64),
    )
    return TextEncoder("siglip", width, tokens)


def open_model(sources: WeightSources, shape: ModelShape) -> FamilyModel:
    """Open both towers.

    Raises:
        VljEdgeError: a file is missing or broken.
    """
    from .dual_encoder import ImageTower

    return open_siglip(sources, shape, "SiglipVisionModel", lambda tower: ImageTower(tower, "pooler_output"))


def open_siglip(
    sources: WeightSources, shape: ModelShape, vision_class: str, as_tower: Callable[[nn.Module], nn.Module]
) -> FamilyModel:
    """Open both towers of any kind of SigLIP.

    Args:
        vision_class: transformers' class of the vision tower; the text tower's has Text in place of Vision.
        as_tower: makes the vision engine's module of it.

    Raises:
        VljEdgeError: a file is missing or broken.
    """
    from .dual_encoder import TextTower, open_towers
    from .loading import load_module, transformers_class
    from .siglip_tokenizer import load_canonical_tokenizer

    assert sources.weights is not None
    directory = sources.weights

    def load(name: str) -> nn.Module:
        return load_module(directory, transformers_class(name, _SINCE))

    return open_towers(
        sources,
        shape,
        label_settings(directory),
        lambda: as_tower(load(vision_class)),
        lambda: TextTower(load(vision_class.replace("Vision", "Text")), "pooler_output"),
        load_canonical_tokenizer,
    )


def label_settings(directory: Path) -> LabelSettings:
    """Return how cosines become scores.

    Raises:
        VljEdgeError: a number is not among the weights.
    """
    from vlj_edge.bundle import LabelSettings

    from .loading import read_number, read_temperature

    temperature, bias = read_temperature(directory), read_number(directory, "logit_bias")

    def cosine_of(score: float) -> float:
        return min(max((math.log(score / (1 - score)) - bias) * temperature, -1.0), 1.0)

    none_below, search_floor = cosine_of(0.5), cosine_of(_SEARCHED)
    return LabelSettings(temperature=temperature, bias=bias, none_below=none_below, search_floor=search_floor)
