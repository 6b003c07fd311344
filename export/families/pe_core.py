"""Perception Encoder, PE-Core (timm/PE-Core-*, which hold facebook/PE-Core-* in open_clip's layout), compared with an
implementation of facebookresearch/perception_models and of timm's Eva in the tests.

It knows single images: a clip's embedding is the mean of its frames' unit embeddings, scaled to unit length, as its
owners embed a video. Scores are a softmax of cosine * exp(logit_scale) over the labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vlj_edge.errors import VljEdgeError
from vlj_edge.presets import ModelShape, Preprocess, TextEncoder

from ..weights.locations import WeightSources
from .checkpoint import Checkpoint, read_checkpoint, read_colours
from .clips import image_clip

if TYPE_CHECKING:
    from .model import FamilyModel

ARCHITECTURES = ("PE-Core",)
_TEXT_DEFAULTS = {"width": 512, "layers": 12, "heads": 8, "vocab_size": 49408, "context_length": 77}  # CLIPTextCfg
_FILTERS = ("bilinear", "bicubic")


@dataclass(frozen=True)
class Trunk:
    """A vision tower. open_clip's configuration has its name alone."""

    patch: int  # pixels
    width: int
    layers: int
    heads: int
    mlp: int
    class_token: bool = True


# timm/models/eva.py, vit_pe_core_*
TRUNKS = {
    "vit_pe_core_tiny_patch16_384": Trunk(16, 192, 12, 3, 768),
    "vit_pe_core_small_patch16_384": Trunk(16, 384, 12, 6, 1536),
    "vit_pe_core_base_patch16_224": Trunk(16, 768, 12, 12, 3072),
    "vit_pe_core_large_patch14_336": Trunk(14, 1024, 24, 16, 4096),
    "vit_pe_core_gigantic_patch14_448": Trunk(14, 1536, 50, 16, 8960, class_token=False),
}


@dataclass(frozen=True)
class TextTrunk:
    """The text tower: CLIP's."""

    width: int
    layers: int
    heads: int
    vocabulary: int
    tokens: int


def read_shape(checkpoint: Checkpoint, frames: int | None) -> ModelShape:
    """Return the shape, from open_clip_config.json.

    Raises:
        VljEdgeError: it says something that this export does not do.
    """
    model, vision = _part(checkpoint.config, "model_cfg"), _vision(checkpoint)
    read_trunk(checkpoint)
    text = read_text_trunk(checkpoint)
    return ModelShape(
        name="pe-core",
        family="pe-core",
        embedding=checkpoint.number(model, "embed_dim", 1024),
        preprocess=_preprocess(checkpoint, checkpoint.number(vision, "image_size", 224)),
        clip=image_clip(frames),
        text=TextEncoder("pe-core", text.width, text.tokens),
    )


def read_trunk(checkpoint: Checkpoint) -> Trunk:
    """Return the dimensions of the vision tower.

    Raises:
        VljEdgeError: it is another one, or has another head.
    """
    vision = _vision(checkpoint)
    name = str(vision.get("timm_model_name"))
    if name not in TRUNKS:
        raise VljEdgeError(f"{checkpoint.path} has the vision tower {name[:80]}: name one of {', '.join(TRUNKS)}")
    if vision.get("timm_pool") != "map" or vision.get("timm_proj") is not None:
        raise VljEdgeError(f"{checkpoint.path} has another head than PE-Core's (timm_pool, timm_proj): check it")
    return TRUNKS[name]


def read_text_trunk(checkpoint: Checkpoint) -> TextTrunk:
    """Return the dimensions of the text tower.

    Raises:
        VljEdgeError: it is not CLIP's.
    """
    text = _part(_part(checkpoint.config, "model_cfg"), "text_cfg")
    unknown = sorted(text.keys() - _TEXT_DEFAULTS.keys())
    if unknown or not text:
        raise VljEdgeError(
            f"{checkpoint.path} has a text tower with {', '.join(unknown)[:80] or 'no text_cfg'}, unlike PE-Core's:"
            " check it"
        )
    width, layers, heads, vocabulary, tokens = (
        checkpoint.number(text, name, default) for name, default in _TEXT_DEFAULTS.items()
    )
    return TextTrunk(width, layers, heads, vocabulary, tokens)


def open_model(sources: WeightSources, shape: ModelShape) -> FamilyModel:
    """Open both towers.

    Raises:
        VljEdgeError: a file is missing or broken, or tensors are missing, unexpected or of another shape.
    """
    from vlj_edge.bundle import LabelSettings

    from . import dual_encoder, loading
    from .pe_core_parts import load_text_tower, load_vision_tower

    assert sources.weights is not None
    directory = sources.weights
    checkpoint = read_checkpoint(directory)
    trunk, text = read_trunk(checkpoint), read_text_trunk(checkpoint)
    return dual_encoder.open_towers(
        sources,
        shape,
        LabelSettings(temperature=loading.read_temperature(directory)),
        lambda: load_vision_tower(directory, trunk, shape),
        lambda: load_text_tower(directory, text, shape),
    )


def _preprocess(checkpoint: Checkpoint, side: int) -> Preprocess:
    found = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "interpolation": "bilinear", "resize_mode": "squash"}
    found |= _part(checkpoint.config, "preprocess_cfg")
    mean, std = read_colours(checkpoint.path, found, "mean", "std")
    if found["resize_mode"] != "squash" or found["interpolation"] not in _FILTERS:
        raise VljEdgeError(
            f"{checkpoint.path} resizes pictures by {str(found['resize_mode'])[:40]} and"
            f" {str(found['interpolation'])[:40]}, and this export does squash, with {' or '.join(_FILTERS)}: check it"
        )
    resample: Any = found["interpolation"]
    return Preprocess(side, side, mean, std, keep_aspect=False, resample=resample, corner="floor")


def _vision(checkpoint: Checkpoint) -> Mapping[str, Any]:
    return _part(_part(checkpoint.config, "model_cfg"), "vision_cfg")


def _part(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = config.get(name)
    return found if isinstance(found, Mapping) else {}
