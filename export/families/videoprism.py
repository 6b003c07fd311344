"""VideoPrism LvT, video and text in one space, compared with transformers' VideoPrismClipModel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vlj_edge.presets import ModelShape, TextEncoder

from ..weights.locations import WeightSources
from .checkpoint import Checkpoint, read_own_frames, read_preprocess
from .clips import video_clip

if TYPE_CHECKING:
    from .model import FamilyModel

ARCHITECTURES = ("VideoPrismClipModel",)
_SINCE = "5.13"  # of transformers
_FRAMES_PER_SECOND = 4.0  # 16 frames are 4 s, as of the other video models here; the checkpoint does not say
_TEMPERATURE = 0.01  # no scale is in the checkpoint


def read_shape(checkpoint: Checkpoint, frames: int | None) -> ModelShape:
    """Return the shape, from config.json and the processor's file.

    Raises:
        VljEdgeError: another number of frames is asked for than the model has positions for.
    """
    text, vision = checkpoint.part("text_config"), checkpoint.part("vision_config")
    side, own_frames = checkpoint.number(vision, "image_size", 288), read_own_frames(checkpoint, frames, 16)
    square = {"height": side, "width": side}
    unit = {"image_mean": (0.0, 0.0, 0.0), "image_std": (1.0, 1.0, 1.0)}
    # VideoPrismProcessor passes these to the video processor, whatever that one's file says.
    fixed = {"size": square, "do_normalize": False, "do_center_crop": False}
    width = checkpoint.number(vision, "hidden_size", 768)
    return ModelShape(
        name="videoprism",
        family="videoprism",
        embedding=width,
        preprocess=read_preprocess(checkpoint, side, {"resample": 3, **unit}, fixed),
        clip=video_clip(own_frames, _FRAMES_PER_SECOND),
        text=TextEncoder("videoprism", width, checkpoint.number(text, "max_position_embeddings", 64)),
    )


def open_model(sources: WeightSources, shape: ModelShape) -> FamilyModel:
    """Open both towers.

    Raises:
        VljEdgeError: a file is missing or broken, or transformers is too old.
    """
    from vlj_edge.bundle import LabelSettings

    from . import dual_encoder
    from .videoprism_parts import load_text_tower, load_video_tower

    assert sources.weights is not None
    directory = sources.weights
    return dual_encoder.open_towers(
        sources,
        shape,
        LabelSettings(temperature=_TEMPERATURE),
        lambda: load_video_tower(directory, _SINCE),
        lambda: load_text_tower(directory, _SINCE),
    )
