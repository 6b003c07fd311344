"""V-JEPA 2 with a head that names actions (SSv2's 174 sentences, Diving48), compared with transformers'
VJEPA2ForVideoClassification. It has no text tower: its labels are all that it can say.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from vlj_edge.bundle import CaptionMemorySettings, GateSettings
from vlj_edge.errors import VljEdgeError, WrongCall
from vlj_edge.presets import ModelShape, VisionEncoder

from ..weights.locations import CONFIG_FILE, WeightSources
from .checkpoint import IMAGENET_MEAN, IMAGENET_STD, Checkpoint, read_checkpoint, read_preprocess
from .clips import video_clip

if TYPE_CHECKING:
    from .model import FamilyModel

ARCHITECTURES = ("VJEPA2ForVideoClassification",)
_FRAMES_PER_SECOND = 4.0  # at which V-JEPA 2 was trained (arXiv 2506.09985, section 2)
_PLACEHOLDER = re.compile(r"LABEL_\d+")  # what transformers writes where nobody has named the labels


def read_shape(checkpoint: Checkpoint, frames: int | None) -> ModelShape:
    """Return the shape, from config.json and the processor's file.

    Raises:
        VljEdgeError: the labels have no names, or the frames do not fill tubelets.
    """
    config = checkpoint.config
    side, tubelet = checkpoint.number(config, "crop_size", 256), checkpoint.number(config, "tubelet_size", 2)
    kind = VljEdgeError if frames is None else WrongCall
    frames = frames or checkpoint.number(config, "frames_per_clip", 64)
    if frames % tubelet:
        raise kind(f"{frames} frames do not fill tubelets: name a multiple of {tubelet}")
    processor = {
        "crop_size": side,
        "do_center_crop": True,
        "resample": 2,
        "image_mean": IMAGENET_MEAN,
        "image_std": IMAGENET_STD,
    }
    fixed = {"size": {"shortest_edge": side * 256 // 224}}  # VJEPA2VideoProcessor replaces that of its file
    return ModelShape(
        name="vjepa2-classifier",
        family="vjepa2-classifier",
        embedding=checkpoint.number(config, "hidden_size", 1024) + 1,  # the label head divides by the last component
        preprocess=read_preprocess(checkpoint, side, processor, fixed),
        clip=video_clip(frames, _FRAMES_PER_SECOND),
        text=None,
        labels=_labels(checkpoint),
    )


def open_model(sources: WeightSources, shape: ModelShape) -> FamilyModel:
    """Open the encoder, its pooler and the label head.

    Raises:
        VljEdgeError: a file is missing or broken, or tensors are missing, unexpected or of another shape.
    """
    from .classifier_parts import load_head, load_pooled_encoder
    from .loading import weight_files
    from .model import FamilyModel

    assert sources.weights is not None
    directory = sources.weights
    vision = _vision(read_checkpoint(directory))
    files = weight_files(directory)
    loaders = {"vision_encoder": lambda: load_pooled_encoder(directory, vision, shape)}
    if not sources.without_decoder:
        loaders["decoder"] = lambda: load_head(directory, shape)
    return FamilyModel(
        shape=shape,
        loaders=loaders,
        tokenizers={},
        files=files,
        largest=sum(path.stat().st_size for path in files),
        gates=GateSettings(memory=CaptionMemorySettings(enabled=False)),  # a label costs nothing to compute again
    )


def _labels(checkpoint: Checkpoint) -> tuple[str, ...]:
    path, names = checkpoint.directory / CONFIG_FILE, checkpoint.config.get("id2label")
    if not isinstance(names, dict) or not names or all(_PLACEHOLDER.fullmatch(str(name)) for name in names.values()):
        raise VljEdgeError(f"{path} has no id2label, so the classifier's logits have no names: add it, or name another")
    try:
        labels = [names[str(number)] for number in range(len(names))]
    except KeyError as error:
        raise VljEdgeError(
            f"{path}: id2label has {len(names)} labels but no number {error}: download it again"
        ) from None
    labels = [" ".join(str(label).split()) for label in labels]
    if not all(labels) or len(set(labels)) < len(labels):
        raise VljEdgeError(f"{path}: id2label has a label twice, or an empty one: download it again")
    return tuple(labels)


def _vision(checkpoint: Checkpoint) -> VisionEncoder:
    config = checkpoint.config
    width = checkpoint.number(config, "hidden_size", 1024)
    ratio = config.get("mlp_ratio", 4.0)
    return VisionEncoder(
        stem=None,
        tubelet=checkpoint.number(config, "tubelet_size", 2),
        patch=checkpoint.number(config, "patch_size", 16),
        width=width,
        layers=checkpoint.number(config, "num_hidden_layers", 24),
        heads=checkpoint.number(config, "num_attention_heads", 16),
        mlp=int(width * float(ratio if isinstance(ratio, (int, float)) else 4.0)),
    )
