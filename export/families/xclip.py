"""X-CLIP (microsoft/xclip-*), CLIP with attention between the frames of a clip, compared with transformers' XCLIPModel.

Its embeddings are get_video_features() and get_text_features(). Before it compares them, XCLIPModel refines every text
by the patches of the video. A bundle has one embedding a text, so label scores leave that out: they are the softmax of
cosine * exp(logit_scale) of the two embeddings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vlj_edge.presets import ModelShape, TextEncoder

from ..weights.locations import WeightSources
from .checkpoint import IMAGENET_MEAN, IMAGENET_STD, Checkpoint, read_own_frames, read_preprocess
from .clips import video_clip

if TYPE_CHECKING:
    from .model import FamilyModel

ARCHITECTURES = ("XCLIPModel",)
# of a clip: trained on frames spread evenly over the videos of Kinetics (microsoft/VideoX, X-CLIP/datasets/build.py)
_SECONDS = 10.0
_CAVEAT = (
    "X-CLIP was trained to refine each text by the video before it compares them, which a bundle leaves out: label"
    " scores are those of its plain embeddings"
)


def read_shape(checkpoint: Checkpoint, frames: int | None) -> ModelShape:
    """Return the shape, from config.json and the processor's file.

    Raises:
        VljEdgeError: another number of frames is asked for than the model has positions for.
    """
    text, vision = checkpoint.part("text_config"), checkpoint.part("vision_config")
    side, own_frames = checkpoint.number(vision, "image_size", 224), read_own_frames(checkpoint, frames, 8)
    processor = {
        "size": {"shortest_edge": side},
        "crop_size": side,  # files of 2022 name the size alone, to which the crop was equal
        "do_center_crop": True,
        "resample": 2,
        "image_mean": IMAGENET_MEAN,
        "image_std": IMAGENET_STD,
    }
    width = checkpoint.number(text, "hidden_size", 512)
    return ModelShape(
        name="xclip",
        family="xclip",
        embedding=checkpoint.number(checkpoint.config, "projection_dim", 512),
        preprocess=read_preprocess(checkpoint, side, processor),
        clip=video_clip(own_frames, own_frames / _SECONDS),
        text=TextEncoder("xclip", width, checkpoint.number(text, "max_position_embeddings", 77)),
    )


def open_model(sources: WeightSources, shape: ModelShape) -> FamilyModel:
    """Open both towers.

    Raises:
        VljEdgeError: a file is missing or broken.
    """
    from vlj_edge.bundle import LabelSettings

    from . import dual_encoder, loading
    from .xclip_parts import TextTower, VideoTower

    assert sources.weights is not None
    directory = sources.weights

    def load() -> Any:
        return loading.load_module(directory, loading.transformers_class("XCLIPModel", "5.0"))

    return dual_encoder.open_towers(
        sources,
        shape,
        LabelSettings(temperature=loading.read_temperature(directory), caveat=_CAVEAT),
        lambda: VideoTower(load()),
        lambda: TextTower(load()),
    )
