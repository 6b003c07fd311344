"""Public checkpoints as state dicts with the names of the modules in models/.

Only names and packing change, no values, except that V-JEPA 2.1's modality embedding is added to the bias of the patch
embedding. Unknown tensors keep their names, so that the check of keys in sources.py lists them.
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

# Keys of the averaged encoder, which is the one to use, in Meta's files: of 2.1, of 2, of some releases.
_META_ENCODERS = ("ema_encoder", "target_encoder", "encoder")
_OPEN_VLJEPA = ("predictor.", "y_encoder.projector.", "y_encoder.model.")  # its key prefixes


def vision_encoder(path: Path, preset: Preset) -> State:
    """Read V-JEPA 2 from a transformers directory, or V-JEPA 2 or 2.1 from Meta's `.pt`.

    Raises:
        VljEdgeError: the file cannot be read, holds no such encoder, or its config contradicts the preset.
    """
    if path.is_dir():
        config, state = read_transformers(path)
        _check_config(path, config, _vjepa_config(preset.vision))
        return from_transformers_vjepa(state, preset.vision.layers)
    loaded = read_pt(path)
    name = next((name for name in _META_ENCODERS if name in loaded), None)
    if name is None:
        raise VljEdgeError(f"{path} holds none of {', '.join(_META_ENCODERS)}: name one of Meta's V-JEPA 2 checkpoints")
    return from_meta_vjepa(loaded[name], preset.vision, image=preset.clip.frames == 1)


def llama_layers(path: Path, preset: Preset) -> State:
    """Read the predictor's weights: token embedding, final norm and the LAST layers of a Llama.

    The projections that VL-JEPA trains around them are not included.

    Raises:
        VljEdgeError: the directory cannot be read, or its config contradicts the preset.
    """
    config, state = read_transformers(path)
    _check_config(path, config, _llama_config(preset.predictor))
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
        if key != "lm_head.weight":  # an embedding model needs no output layer
            ours[key] = value
    return ours


@dataclass(frozen=True)
class OpenVLJepa:
    """The parts that open-vljepa trains; its vision encoder is the published V-JEPA 2 and not in the file.

    Attributes:
        predictor: keys of our Predictor.
        text_projection: weight and bias.
        text_backbone: transformers' names of EmbeddingGemma.
        config: its training configuration, with the names of the pretrained parts.
    """

    predictor: State
    text_projection: State
    text_backbone: State
    config: dict[str, Any]


def open_vljepa(path: Path) -> OpenVLJepa:
    """Read the `best.pt` of open-vljepa (github.com/dion-jy/open-vljepa).

    Raises:
        VljEdgeError: the file cannot be read, or is another project's.
    """
    loaded = read_pt(path)
    state = loaded.get("model_state_dict")
    if not isinstance(state, dict):
        raise VljEdgeError(f"{path} has no model_state_dict: name the best.pt of open-vljepa")
    parts = [_with_prefix(state, prefix) for prefix in _OPEN_VLJEPA]
    for prefix, part in zip(_OPEN_VLJEPA, parts, strict=True):
        if not part:
            raise VljEdgeError(f"{path} holds no {prefix}*: name the best.pt of open-vljepa")
    predictor, projection, backbone = parts
    return OpenVLJepa(predictor, projection, backbone, loaded.get("config", {}))


def _with_prefix(state: State, prefix: str) -> State:
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def from_transformers_vjepa(state: State, layers: int) -> State:
    """Rename the tensors of transformers' VJEPA2Model, pack q, k and v, and leave its predictor out."""
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
    """Rename Meta's tensors. Of V-JEPA 2.1, keep the norm of the last block and the embeddings of one modality."""
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


def _check_config(path: Path, config: dict[str, Any], expected: dict[str, Any]) -> None:
    """Check the settings that shapes do not show, such as the number of heads, against the preset's."""
    for key, value in expected.items():
        if key in config and config[key] != value:
            raise VljEdgeError(
                f"{path / 'config.json'} has {key} {config[key]!r} where the preset has {value!r}:"
                " name the preset that fits, or the right directory"
            )
