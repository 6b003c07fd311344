"""Public checkpoints -> state dicts with our names: only names and packing change, never a value, but that V-JEPA 2.1's
modality embedding is added to the bias of the patch embedding, which it follows at once.

What a function here does not know keeps its name, so that the check of keys and shapes in weights.py lists it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vlj_edge.errors import VljEdgeError
from vlj_edge.presets import Llama, Preset, VisionEncoder

from .files import State, read_pt, read_transformers

# Where Meta's files keep the averaged encoder, which is the one to use: in 2.1, in 2, in some releases.
_META_ENCODERS = ("ema_encoder", "target_encoder", "encoder")
_OPEN_VLJEPA = ("predictor.", "y_encoder.projector.", "y_encoder.model.")  # its key prefixes


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


def llama_layers(path: Path, preset: Preset) -> State:
    """The predictor's layers, token embedding and last norm: the LAST layers of a Llama in a transformers directory.

    The projections that VL-JEPA trains around them are not in it.

    Raises:
        VljEdgeError: the directory cannot be read, or its config contradicts the preset.
    """
    config, state = read_transformers(path)
    _agree(path, config, _llama_config(preset.predictor))
    first = int(config.get("num_hidden_layers", preset.predictor.layers)) - preset.predictor.layers
    ours: State = {}
    for key, value in state.items():
        key = key.removeprefix("model.")
        layer = re.match(r"layers\.(\d+)\.", key)
        if layer is not None:
            number = int(layer.group(1)) - first
            if number < 0:
                continue
            key = f"layers.{number}.{key[layer.end() :]}"
        if key != "lm_head.weight":  # the words' head, which an embedding has no use for
            ours[key] = value
    return ours


@dataclass(frozen=True)
class OpenVLJepa:
    """What open-vljepa trains; its vision encoder is V-JEPA 2 as published and not in the file.

    Attributes:
        predictor: keys of our Predictor.
        text_projection: weight and bias.
        text_backbone: transformers' names of EmbeddingGemma.
        config: its training configuration, which names the parts it began with.
    """

    predictor: State
    text_projection: State
    text_backbone: State
    config: dict[str, Any]


def open_vljepa(path: Path) -> OpenVLJepa:
    """The `best.pt` of open-vljepa (github.com/dion-jy/open-vljepa).

    Raises:
        VljEdgeError: the file cannot be read, or is another project's.
    """
    loaded = read_pt(path)
    state = loaded.get("model_state_dict")
    if not isinstance(state, dict):
        raise VljEdgeError(f"{path} has no model_state_dict: name the best.pt of open-vljepa")
    parts = [_part(state, prefix) for prefix in _OPEN_VLJEPA]
    for prefix, part in zip(_OPEN_VLJEPA, parts, strict=True):
        if not part:
            raise VljEdgeError(f"{path} holds no {prefix}*: name the best.pt of open-vljepa")
    predictor, projection, backbone = parts
    return OpenVLJepa(predictor, projection, backbone, loaded.get("config", {}))


def _part(state: State, prefix: str) -> State:
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


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


def _llama_config(llama: Llama) -> dict[str, Any]:
    return {
        "model_type": "llama",
        "hidden_size": llama.width,
        "num_attention_heads": llama.heads,
        "num_key_value_heads": llama.kv_heads,
        "head_dim": llama.head_dim,
        "rms_norm_eps": llama.norm_eps,
        "hidden_act": "silu",
    }


def _agree(path: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """What shapes cannot show, such as the number of heads, must be as the preset has it."""
    for key, value in wanted.items():
        if key in found and found[key] != value:
            raise VljEdgeError(
                f"{path / 'config.json'} has {key} {found[key]!r} where the preset has {value!r}:"
                " name the preset that fits, or the right directory"
            )
