"""PE-Core in plain torch, from open_clip's state dict: written from facebookresearch/perception_models (vision_encoder,
pe.py and rope.py), timm (models/eva.py) and open_clip (transformer.py), and compared once by hand with timm and
open_clip themselves, which do not load beside the CPU build of torch that the tests use.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

State = dict[str, Tensor]


@dataclass(frozen=True)
class Dimensions:
    """Of a vision tower."""

    width: int
    layers: int
    mlp: int
    patch: int
    grid: int
    class_token: bool


def random_state(
    vision: Dimensions, width: int, layers: int, vocabulary: int, tokens: int, embedding: int, scale: float = 0.15
) -> State:
    """A state dict of open_clip's CustomTextCLIP. `width` to `tokens` are the text tower's; seed 0."""
    generator = torch.Generator().manual_seed(0)
    state: State = {}

    def add(name: str, *shape: int, mean: float = 0.0) -> None:
        spread = scale if len(shape) > 1 else scale / 3
        state[name] = mean + spread * torch.randn(shape, generator=generator)

    def linear(name: str, out: int, into: int) -> None:
        add(f"{name}.weight", out, into)
        add(f"{name}.bias", out)

    def norm(name: str, size: int) -> None:
        add(f"{name}.weight", size, mean=1.0)
        add(f"{name}.bias", size)

    w, trunk = vision.width, "visual.trunk"
    if vision.class_token:
        add(f"{trunk}.cls_token", 1, 1, w)
    add(f"{trunk}.pos_embed", 1, vision.grid**2 + vision.class_token, w)
    add(f"{trunk}.patch_embed.proj.weight", w, 3, vision.patch, vision.patch)
    norm(f"{trunk}.norm_pre", w)
    norm(f"{trunk}.norm", w)
    for i in range(vision.layers):
        block = f"{trunk}.blocks.{i}"
        norm(f"{block}.norm1", w)
        norm(f"{block}.norm2", w)
        linear(f"{block}.attn.qkv", 3 * w, w)
        linear(f"{block}.attn.proj", w, w)
        linear(f"{block}.mlp.fc1", vision.mlp, w)
        linear(f"{block}.mlp.fc2", w, vision.mlp)
    pool = f"{trunk}.attn_pool"
    add(f"{pool}.latent", 1, 1, w)
    linear(f"{pool}.q", w, w)
    linear(f"{pool}.kv", 2 * w, w)
    linear(f"{pool}.proj", w, w)
    norm(f"{pool}.norm", w)
    linear(f"{pool}.mlp.fc1", 4 * w, w)
    linear(f"{pool}.mlp.fc2", w, 4 * w)
    linear(f"{trunk}.head", embedding, w)

    add("text.token_embedding.weight", vocabulary, width)
    add("text.positional_embedding", tokens, width)
    norm("text.ln_final", width)
    add("text.text_projection", width, embedding)
    for i in range(layers):
        block = f"text.transformer.resblocks.{i}"
        norm(f"{block}.ln_1", width)
        norm(f"{block}.ln_2", width)
        add(f"{block}.attn.in_proj_weight", 3 * width, width)
        add(f"{block}.attn.in_proj_bias", 3 * width)
        linear(f"{block}.attn.out_proj", width, width)
        linear(f"{block}.mlp.c_fc", 4 * width, width)
        linear(f"{block}.mlp.c_proj", width, 4 * width)
    state["logit_scale"] = torch.tensor(math.log(100.0))
    return state


def encode_images(state: State, images: Tensor, heads: int, pool_heads: int = 8) -> Tensor:
    """Embed float32 (images, 3, side, side), normalised -> (images, embedding), of any length."""
    own = {key.removeprefix("visual.trunk."): value for key, value in state.items() if key.startswith("visual.trunk.")}
    kernel = own["patch_embed.proj.weight"]
    patches = F.conv2d(images, kernel, stride=kernel.shape[-1])
    grid = patches.shape[-1]
    x = patches.flatten(2).transpose(1, 2)
    prefix = "cls_token" in own
    if prefix:
        x = torch.cat((own["cls_token"].expand(len(x), 1, -1), x), dim=1)
    x = _norm(own, "norm_pre", x + own["pos_embed"])
    turns = _turns(grid, x.shape[-1] // heads, offset=int(prefix))
    for i in range(sum(key.endswith("norm1.weight") for key in own)):
        q, k, v = _linear(own, f"blocks.{i}.attn.qkv", _norm(own, f"blocks.{i}.norm1", x)).chunk(3, dim=-1)
        q, k, v = (each.unflatten(-1, (heads, -1)).transpose(1, 2) for each in (q, k, v))
        q, k = (_rotate(each, turns, int(prefix)) for each in (q, k))
        x = x + _linear(own, f"blocks.{i}.attn.proj", _attend(q, k, v))
        x = x + _mlp(own, f"blocks.{i}.mlp", ("fc1", "fc2"), _norm(own, f"blocks.{i}.norm2", x))
    x = _norm(own, "norm", x)
    q = _linear(own, "attn_pool.q", own["attn_pool.latent"].expand(len(x), 1, -1))
    k, v = _linear(own, "attn_pool.kv", x).chunk(2, dim=-1)
    pooled = _attend(*(each.unflatten(-1, (pool_heads, -1)).transpose(1, 2) for each in (q, k, v)))
    pooled = _linear(own, "attn_pool.proj", pooled)
    pooled = pooled + _mlp(own, "attn_pool.mlp", ("fc1", "fc2"), _norm(own, "attn_pool.norm", pooled))
    return _linear(own, "head", pooled[:, 0])


def encode_texts(state: State, ids: Tensor, heads: int) -> Tensor:
    """Embed int64 (texts, tokens), padded after the largest id -> (texts, embedding), of any length."""
    own = {key.removeprefix("text."): value for key, value in state.items() if key.startswith("text.")}
    x = own["token_embedding.weight"][ids] + own["positional_embedding"][: ids.shape[1]]
    mask = torch.full((ids.shape[1], ids.shape[1]), -torch.inf).triu(1)
    for i in range(sum(key.endswith("ln_1.weight") for key in own)):
        block = f"transformer.resblocks.{i}"
        y = _norm(own, f"{block}.ln_1", x)
        y = F.linear(y, own[f"{block}.attn.in_proj_weight"], own[f"{block}.attn.in_proj_bias"])
        q, k, v = (each.unflatten(-1, (heads, -1)).transpose(1, 2) for each in y.chunk(3, dim=-1))
        x = x + _linear(own, f"{block}.attn.out_proj", _attend(q, k, v, mask))
        x = x + _mlp(own, f"{block}.mlp", ("c_fc", "c_proj"), _norm(own, f"{block}.ln_2", x))
    x = _norm(own, "ln_final", x)
    return x[torch.arange(len(x)), ids.argmax(-1)] @ own["text_projection"]


def _turns(grid: int, head_dim: int, offset: int) -> Tensor:
    """The rotation of each patch, complex (patches, head_dim / 2): by its column, then by its row."""
    bands = 10000.0 ** -(torch.arange(0, head_dim // 2, 2) / (head_dim // 2))
    rows, columns = torch.meshgrid(torch.arange(grid), torch.arange(grid), indexing="ij")
    angles = [(axis.flatten() + offset)[:, None] * bands for axis in (columns, rows)]
    return torch.exp(1j * torch.cat(angles, dim=-1))


def _rotate(x: Tensor, turns: Tensor, prefix: int) -> Tensor:
    pairs = torch.view_as_complex(x[:, :, prefix:].unflatten(-1, (-1, 2)).contiguous())
    return torch.cat((x[:, :, :prefix], torch.view_as_real(pairs * turns).flatten(-2)), dim=2)


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    if mask is not None:
        scores = scores + mask
    return (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)


def _mlp(state: State, name: str, layers: tuple[str, str], x: Tensor) -> Tensor:
    return _linear(state, f"{name}.{layers[1]}", F.gelu(_linear(state, f"{name}.{layers[0]}", x)))


def _linear(state: State, name: str, x: Tensor) -> Tensor:
    return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])


def _norm(state: State, name: str, x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], 1e-5)
