"""Public checkpoints -> state dicts with our names: only names and packing change, never a value, but that V-JEPA 2.1's
modality embedding is added to the bias of the patch embedding, which it follows at once.

What a function here does not know keeps its name, so that the check of keys and shapes in weights.py lists it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

from vlj_edge.errors import VljEdgeError
from vlj_edge.presets import Preset, VisionEncoder

from .checkpoint_files import State, read_pt, read_transformers

# Where Meta's files keep the averaged encoder, which is the one to use: in 2.1, in 2, in some releases.
_META_ENCODERS = ("ema_encoder", "target_encoder", "encoder")


def vision_encoder(path: Path, preset: Preset) -> State:
    """V-JEPA 2 from a transformers directory, or V-JEPA 2 or 2.1 from Meta's `.pt`.

    Raises:
        VljEdgeError: the file cannot be read, holds no such encoder, or its config contradicts the preset.
    """
    if path.is_dir():
        config, state = read_transformers(path)
        _agree(path, config, _vjepa_config(preset.vision))
        return from_transformers_vjepa(state, preset.vision.layers)
    loaded = read_pt(path)
    name = next((name for name in _META_ENCODERS if name in loaded), None)
    if name is None:
        raise VljEdgeError(f"{path} holds none of {', '.join(_META_ENCODERS)}: name one of Meta's V-JEPA 2 checkpoints")
    return from_meta_vjepa(loaded[name], preset.vision, image=preset.clip.frames == 1)


def from_transformers_vjepa(state: State, layers: int) -> State:
    """VJEPA2Model's names to ours: q, k and v are packed, attention and MLP lose a level; its predictor is left out."""
    ours: State = {}
    for key, value in state.items():
        if key.startswith("predictor."):
            continue
        key = key.removeprefix("encoder.")
        key = key.replace("embeddings.patch_embeddings.proj.", "patch_embed.").replace("layernorm.", "norm.")
        key = re.sub(r"^layer\.(\d+)\.", r"blocks.\1.", key).replace(".mlp.fc", ".fc")
        ours[key] = value
    for block in range(layers):
        for kind in ("weight", "bias"):
            parts = [f"blocks.{block}.attention.{part}.{kind}" for part in ("query", "key", "value")]
            if all(part in ours for part in parts):
                ours[f"blocks.{block}.attention.qkv.{kind}"] = torch.cat([ours.pop(part) for part in parts])
    return ours


def from_meta_vjepa(state: State, config: VisionEncoder, image: bool) -> State:
    """Meta's names to ours. Of V-JEPA 2.1, the norm of the last block and the embeddings of one modality are kept."""
    ours: State = {}
    for key, value in state.items():
        key = key.removeprefix("module.").removeprefix("backbone.")
        key = key.replace(".attn.", ".attention.").replace(".mlp.fc", ".fc")
        ours[key] = value
    if config.squeezed_positions:
        _choose_modality(ours, image)
    for kind in ("weight", "bias"):
        _rename(ours, f"patch_embed.proj.{kind}", f"patch_embed.{kind}")
    return ours


def _choose_modality(ours: State, image: bool) -> None:
    for kind in ("weight", "bias"):
        of_image = ours.pop(f"patch_embed_img.proj.{kind}", None)
        if image and of_image is not None:
            ours[f"patch_embed.proj.{kind}"] = of_image
        for level in range(3):  # norms of earlier blocks, for training's other losses
            ours.pop(f"norms_block.{level}.{kind}", None)
        _rename(ours, f"norms_block.3.{kind}", f"norm.{kind}")
    embeddings = {name: ours.pop(f"{name}_mod_embed", None) for name in ("img", "video")}
    modality = embeddings["img" if image else "video"]
    if modality is not None and "patch_embed.proj.bias" in ours:
        ours["patch_embed.proj.bias"] = ours["patch_embed.proj.bias"] + modality.flatten()


def _rename(state: State, old: str, new: str) -> None:
    if old in state:
        state[new] = state.pop(old)


def _vjepa_config(vision: VisionEncoder) -> dict[str, Any]:
    return {
        "model_type": "vjepa2",
        "hidden_size": vision.width,
        "num_hidden_layers": vision.layers,
        "num_attention_heads": vision.heads,
        "patch_size": vision.patch,
        "tubelet_size": vision.tubelet,
    }


def _agree(path: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """What shapes cannot show, such as the number of heads, must be as the preset has it."""
    for key, value in wanted.items():
        if key in found and found[key] != value:
            raise VljEdgeError(
                f"{path / 'config.json'} has {key} {found[key]!r} where the preset has {value!r}:"
                " name the preset that fits, or the right directory"
            )
