"""Model dimensions as data. A preset holds everything that an export needs besides the weights.

Sources: V-JEPA 2 ViT-L/16 and Llama-3.2-1B config.json; V-JEPA 2.1 ViT-B (facebookresearch/vjepa2, app/vjepa_2_1);
VL-JEPA (arXiv 2512.10942 v2) for how they are joined.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

from .errors import WrongCall
from .schema import Count, Positive, Range


@dataclass(frozen=True)
class Preprocess:
    """Frame -> encoder input: resized (antialiased), centre crop, (RGB / 255 - mean) / std.

    Attributes:
        short_side: pixels of the short side after resizing, before the crop.
        crop: pixels on the side of the encoder's input.
        keep_aspect: False: the whole frame is resized to crop x crop, whatever its shape.
        resample: the filter; both as Pillow has them.
        corner: how half a pixel at the crop's corner is rounded: as torchvision's CenterCrop does ("round"), or as the
            processors of transformers ("floor").
    """

    short_side: Count
    crop: Count
    mean: tuple[float, float, float]
    std: tuple[Positive, Positive, Positive]
    keep_aspect: bool = True
    resample: Literal["bilinear", "bicubic"] = "bilinear"
    corner: Literal["round", "floor"] = "round"


@dataclass(frozen=True)
class Clip:
    """A clip is `frames` samples of the video, taken `frames_per_second` apart in time, whatever the camera's rate."""

    frames: Count
    frames_per_second: Annotated[float, Range(0.001, 1000)]
    stride: Count  # samples between the starts of two windows


@dataclass(frozen=True)
class VisionEncoder:
    """A V-JEPA 2 encoder. With a stem, tubelets are cut from the stem's feature map instead of from pixels.

    Attributes:
        squeezed_positions: V-JEPA 2.1's positions (export/models/rope.py). Such an encoder takes a clip of one frame as
            an image, with a patch embedding of its own; any other needs whole tubelets.
    """

    stem: str | None  # None or "efficientnet-lite0"
    tubelet: int  # frames
    patch: int  # pixels, or cells of the stem's feature map
    width: int
    layers: int
    heads: int
    mlp: int
    squeezed_positions: bool = False


@dataclass(frozen=True)
class RopeScaling:
    """Llama 3 frequency scaling (transformers modeling_rope_utils, "llama3")."""

    factor: float
    low: float
    high: float
    original_context: int


@dataclass(frozen=True)
class Llama:
    """A stack of Llama blocks: RMSNorm, grouped-query attention with rotate-half RoPE, SwiGLU."""

    vocabulary: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp: int
    norm_eps: float
    rope_theta: float
    rope_scaling: RopeScaling | None = None


@dataclass(frozen=True)
class TextEncoder:
    """The text tower. VL-JEPA's is a sentence encoder from transformers, mean-pooled, with a trained linear head to the
    shared space."""

    backbone: str  # "minilm-l6" or "embeddinggemma-300m"; of another family: its name
    width: int
    tokens: int  # fixed length of the exported engine; longer texts are cut
    int8_storage: bool = False  # without --fp16, store its weights as int8: it is most of a small bundle's size


@dataclass(frozen=True)
class ModelShape:
    """What every family of models has: how frames become clips, and the width of the space.

    Attributes:
        family: of checkpoints, a name in export/families.
        embedding: width of the embeddings.
        text: None: the model has no text tower.
        default_query: empty: the model takes no query.
        labels: of a model that was trained to tell these apart, in the order of its logits; else empty.
        own_captions: whether it brings the captions among which it chooses, where the user names none.
    """

    name: str
    embedding: int
    preprocess: Preprocess
    clip: Clip
    text: TextEncoder | None
    default_query: str = field(default="", kw_only=True)
    family: str = field(default="vl-jepa", kw_only=True)
    labels: tuple[str, ...] = field(default=(), kw_only=True)
    own_captions: bool = field(default=False, kw_only=True)

    @property
    def has_texts(self) -> bool:
        """Whether it says something without captions of the user's."""
        return bool(self.labels) or self.own_captions


@dataclass(frozen=True)
class Preset(ModelShape):
    """The dimensions of VL-JEPA's four engines."""

    text: TextEncoder
    vision: VisionEncoder
    predictor: Llama
    query_tokens: int  # fixed length of the padded query
    decoder: Llama
    decoder_tokens: int  # capacity of the key-value cache: the longest text
    query_pad: int  # padding is masked, so any id serves where a tokenizer has none of its own
    decoder_end: int  # the token that ends a text


_NANO = Preset(
    name="nano",
    embedding=384,
    # EfficientNet-Lite was trained on (pixel - 127) / 128 (its preprocessing in TensorFlow's model garden).
    preprocess=Preprocess(96, 96, (127 / 255,) * 3, (128 / 255,) * 3),
    clip=Clip(frames=8, frames_per_second=4.0, stride=2),
    vision=VisionEncoder("efficientnet-lite0", tubelet=2, patch=1, width=192, layers=4, heads=6, mlp=768),
    predictor=Llama(1024, 192, layers=3, heads=6, kv_heads=2, head_dim=32, mlp=512, norm_eps=1e-5, rope_theta=1e4),
    query_tokens=16,
    decoder=Llama(1024, 192, layers=3, heads=6, kv_heads=2, head_dim=32, mlp=512, norm_eps=1e-5, rope_theta=1e4),
    decoder_tokens=32,
    text=TextEncoder("minilm-l6", width=384, tokens=32, int8_storage=True),
    default_query="Describe the video.",
    query_pad=0,
    decoder_end=2,
)

_VL_JEPA_1_6B = Preset(
    name="vl-jepa-1.6b",
    embedding=1536,
    # V-JEPA 2's own evaluation transform: short side 292, centre crop 256, ImageNet statistics.
    preprocess=Preprocess(292, 256, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    # V-JEPA 2 was trained on 16 frames at 4 frames a second (arXiv 2506.09985, section 2).
    clip=Clip(frames=16, frames_per_second=4.0, stride=4),
    vision=VisionEncoder(None, tubelet=2, patch=16, width=1024, layers=24, heads=16, mlp=4096),
    predictor=Llama(
        vocabulary=128256,
        width=2048,
        layers=8,  # layers 8..15 of Llama-3.2-1B
        heads=32,
        kv_heads=8,
        head_dim=64,
        mlp=8192,
        norm_eps=1e-5,
        rope_theta=5e5,
        rope_scaling=RopeScaling(factor=32.0, low=1.0, high=4.0, original_context=8192),
    ),
    query_tokens=64,  # the paper pads to at most 512; a question is a sentence, and padding costs time on the device
    decoder=Llama(49152, 576, layers=30, heads=9, kv_heads=3, head_dim=64, mlp=1536, norm_eps=1e-5, rope_theta=1e5),
    decoder_tokens=128,
    text=TextEncoder("embeddinggemma-300m", width=768, tokens=128),
    default_query="Describe the video.",
    query_pad=128001,
    decoder_end=2,
)

# For smaller devices: V-JEPA 2.1's ViT-B, whose positions allow any resolution, and half the predictor: with 4 layers
# in place of 8 the paper's ablation loses 2.2 points of classification and 1.3 of retrieval.
_VL_JEPA_BASE = replace(
    _VL_JEPA_1_6B,
    name="vl-jepa-base",
    vision=VisionEncoder(None, tubelet=2, patch=16, width=768, layers=12, heads=12, mlp=3072, squeezed_positions=True),
    predictor=replace(_VL_JEPA_1_6B.predictor, layers=4),
)

PRESETS: dict[str, Preset] = {preset.name: preset for preset in (_NANO, _VL_JEPA_1_6B, _VL_JEPA_BASE)}

ENCODERS: dict[str, VisionEncoder] = {
    "vjepa2-vitl": _VL_JEPA_1_6B.vision,
    "vjepa2.1-vitb": _VL_JEPA_BASE.vision,
    "vjepa2.1-vitl": replace(_VL_JEPA_1_6B.vision, squeezed_positions=True),
}


def preset(name: str) -> Preset:
    """Return the preset of this name.

    Raises:
        VljEdgeError: no preset has this name; the message lists those that exist.
    """
    if name not in PRESETS:
        raise WrongCall(f"no preset is called '{name}': choose one of {', '.join(PRESETS)}")
    return PRESETS[name]


def variant(base: Preset, encoder: str | None = None, frames: int | None = None, size: int | None = None) -> Preset:
    """Return a preset with another vision encoder, number of frames or frame size; None keeps the preset's own.

    Args:
        encoder: a name of ENCODERS.
        frames: a multiple of the tubelet; with V-JEPA 2.1, also 1: an image.
        size: pixels on the side of the encoder's input, a multiple of the patch. V-JEPA 2's positions were trained up
            to the preset's own size; V-JEPA 2.1 squeezes any number of patches into the positions it was trained on.

    Raises:
        VljEdgeError: there is no such encoder, or it does not take these frames or this size.
    """
    vision, clip, preprocess = base.vision, base.clip, base.preprocess
    if encoder is not None:
        if encoder not in ENCODERS:
            raise WrongCall(f"no vision encoder is called '{encoder}': choose one of {', '.join(ENCODERS)}")
        if vision.stem is not None:
            raise WrongCall(f"{base.name} was trained with an encoder of its own: name a larger --preset")
        vision = ENCODERS[encoder]
    if frames is not None:
        image = frames == 1 and vision.squeezed_positions
        if frames < 1 or (frames % vision.tubelet and not image):
            also = ", or 1 for an image" if vision.squeezed_positions else ""
            raise WrongCall(f"{frames} frames do not fill tubelets: name a multiple of {vision.tubelet}{also}")
        clip = replace(clip, frames=frames, stride=min(clip.stride, frames))
    if size is not None:
        if vision.stem is not None and size != preprocess.crop:
            raise WrongCall(f"{base.name} was trained on frames of {preprocess.crop} pixels: leave --size out")
        if size < vision.patch or size % vision.patch:
            raise WrongCall(f"a size of {size} pixels does not fill patches: name a multiple of {vision.patch}")
        if size > preprocess.crop and not vision.squeezed_positions:
            raise WrongCall(
                f"this encoder's positions end at {preprocess.crop} pixels, {size} is beyond: name a V-JEPA 2.1"
                " encoder (--encoder), which takes any size"
            )
        # V-JEPA 2 evaluates with the short side at 256 / 224 of the crop (its eval transforms): 292 for 256.
        short_side = preprocess.short_side if size == preprocess.crop else size * 256 // 224
        preprocess = replace(preprocess, short_side=short_side, crop=size)
    return replace(base, vision=vision, clip=clip, preprocess=preprocess)
