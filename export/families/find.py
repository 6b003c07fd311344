"""Find the family of a checkpoint by its configuration. Needs no torch until open_model()."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlj_edge.errors import VljEdgeError
from vlj_edge.presets import ModelShape

from ..weights.locations import QUERY_TOKENIZER, WeightSources, config_file
from .checkpoint import Checkpoint, read_checkpoint

if TYPE_CHECKING:
    from .model import FamilyModel

_FAMILIES = ("clip", "pe-core", "siglip", "siglip2-naflex", "vjepa2-classifier", "videoprism", "xclip")
_REFUSED = {
    "EmbeddingGemma2Model": "EmbeddingGemma 2 reads each window's frames with a language model of 740 M parameters, and"
    " that is not built: export google/siglip2-base-patch16-224 or google/videoprism-lvt-base-f16r288",
}


def is_checkpoint(path: Path) -> bool:
    """Whether a path is the directory of a public model, and not one of vlj-edge's own weights."""
    return config_file(path) is not None and not (path / QUERY_TOKENIZER).is_file()


def architectures() -> list[str]:
    """Return what is exported: names of transformers' classes, as in config.json, and PE-Core of open_clip."""
    return [name for family in _FAMILIES for name in _module(family).ARCHITECTURES]


def read_shape(directory: Path, frames: int | None = None) -> ModelShape:
    """Return the shape of a transformers directory's model.

    Args:
        frames: of a clip, for a model of single images; None: the family's default.

    Raises:
        VljEdgeError: the directory is of no known family, or its files contradict each other.
    """
    checkpoint = read_checkpoint(directory)
    found = _architectures(checkpoint)
    for name in _FAMILIES:
        family = _module(name)
        if set(family.ARCHITECTURES) & set(found):
            shape: ModelShape = family.read_shape(checkpoint, frames)
            return shape
    for name in found:
        if name in _REFUSED:
            raise VljEdgeError(f"{checkpoint.path} cannot be exported: {_REFUSED[name]}")
    raise VljEdgeError(
        f"{checkpoint.path} is of {', '.join(found)[:80] or 'no architecture'}, which cannot be"
        f" exported: name a checkpoint of {', '.join(architectures())}"
    )


def open_model(sources: WeightSources, shape: ModelShape) -> FamilyModel:
    """Open the weights of a model: check them all, and load none yet.

    Raises:
        VljEdgeError: a file is missing, broken, or does not fit the shape.
    """
    model: FamilyModel = _module(shape.family).open_model(sources, shape)
    return model


def _architectures(checkpoint: Checkpoint) -> list[str]:
    """Return what a configuration names: transformers' classes, or the vision tower of open_clip's."""
    names = checkpoint.config.get("architectures")
    if isinstance(names, list):
        return [name for name in names if isinstance(name, str)]
    model = checkpoint.part("model_cfg").get("vision_cfg")
    tower = model.get("timm_model_name") if isinstance(model, dict) else None
    return [] if not isinstance(tower, str) else ["PE-Core" if tower.startswith("vit_pe_core_") else tower]


def _module(family: str) -> Any:
    return import_module(f".{family.replace('-', '_')}", __package__)
