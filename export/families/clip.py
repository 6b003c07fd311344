"""CLIP (openai/clip-vit-*, LAION's and TinyCLIP's checkpoints), compared with transformers' CLIPModel.

It knows single images: a clip's embedding is the mean of its frames' unit embeddings, scaled to unit length, and says
nothing about their order. Scores are a softmax of cosine * exp(logit_scale) over the labels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vlj_edge.presets import ModelShape, TextEncoder

from ..weights.locations import WeightSources
from .checkpoint import CLIP_MEAN, CLIP_STD, Checkpoint, read_preprocess
from .clips import image_clip

if TYPE_CHECKING:
    from .model import FamilyModel

ARCHITECTURES = ("CLIPModel",)


def read_shape(checkpoint: Checkpoint, frames: int | None) -> ModelShape:
    """Return the shape, from config.json and the processor's file."""
    text, vision = checkpoint.part("text_config"), checkpoint.part("vision_config")
    side = checkpoint.number(vision, "image_size", 224)
    processor = {
        "size": side,
        "crop_size": side,
        "do_center_crop": True,
        "resample": 3,
        "image_mean": CLIP_MEAN,
        "image_std": CLIP_STD,
    }
    width = checkpoint.number(text, "hidden_size", 512)
    return ModelShape(
        name="clip",
        family="clip",
        embedding=checkpoint.number(checkpoint.config, "projection_dim", 512),
        preprocess=read_preprocess(checkpoint, side, processor),
        clip=image_clip(frames),
        text=TextEncoder("clip", width, checkpoint.number(text, "max_position_embeddings", 77)),
    )


def open_model(sources: WeightSources, shape: ModelShape) -> FamilyModel:
    """Open both towers.

    Raises:
        VljEdgeError: a file is missing or broken.
    """
    from vlj_edge.bundle import LabelSettings

    from . import dual_encoder, loading

    assert sources.weights is not None
    directory = sources.weights
    return dual_encoder.open_towers(
        sources,
        shape,
        LabelSettings(temperature=loading.read_temperature(directory)),
        lambda: dual_encoder.ImageTower(
            loading.load_module(directory, loading.transformers_class("CLIPVisionModelWithProjection", "5.0")),
            "image_embeds",
        ),
        lambda: dual_encoder.TextTower(
            loading.load_module(directory, loading.transformers_class("CLIPTextModelWithProjection", "5.0")),
            "text_embeds",
        ),
    )
