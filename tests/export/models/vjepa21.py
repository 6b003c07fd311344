"""V-JEPA 2.1's encoder once more, as plain formulas on a state dict with Meta's names; transformers has none.

Written from the published description, with complex numbers for the rotation, so that it shares no step with ours.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

EPS = 1e-6
Weights = dict[str, Tensor]


def random_weights(width: int, layers: int, mlp: int, patch: int) -> Weights:
    """Every key of a checkpoint, far from initial values."""

    def matrix(out: int, *rest: int) -> Tensor:
        return torch.randn(out, *rest) / math.sqrt(math.prod(rest))

    weights = {
        "patch_embed.proj.weight": matrix(width, 3, 2, patch, patch),
        "patch_embed_img.proj.weight": matrix(width, 3, 1, patch, patch),
        "img_mod_embed": torch.randn(1, 1, width),
        "video_mod_embed": torch.randn(1, 1, width),
    }
    weights |= {f"{name}.proj.bias": torch.randn(width) for name in ("patch_embed", "patch_embed_img")}
    norms = [f"norms_block.{i}" for i in range(4)]
    for i in range(layers):
        norms += [f"blocks.{i}.norm1", f"blocks.{i}.norm2"]
        shapes = {"attn.qkv": (3 * width, width), "attn.proj": (width, width), "mlp.fc1": (mlp, width)}
        for name, (out, inputs) in (shapes | {"mlp.fc2": (width, mlp)}).items():
            weights[f"blocks.{i}.{name}.weight"] = matrix(out, inputs)
            weights[f"blocks.{i}.{name}.bias"] = torch.randn(out) * 0.3
    for name in norms:
        weights[f"{name}.weight"] = torch.rand(width) + 0.5
        weights[f"{name}.bias"] = torch.randn(width) * 0.3
    return weights


def encode(weights: Weights, clip: Tensor, heads: int) -> Tensor:
    """(batch, frames, 3, side, side) -> (batch, tokens, width). One frame is an image."""
    kind, modality = ("patch_embed_img", "img") if clip.shape[1] == 1 else ("patch_embed", "video")
    kernel = weights[f"{kind}.proj.weight"]
    maps = F.conv3d(clip.transpose(1, 2), kernel, weights[f"{kind}.proj.bias"], stride=kernel.shape[2:])
    turn = torch.polar(torch.ones(()), _angles(*maps.shape[2:], maps.shape[1] // heads, 256 // kernel.shape[-1]))
    x = maps.flatten(2).transpose(1, 2) + weights[f"{modality}_mod_embed"]
    layers = len({key.split(".")[1] for key in weights if key.startswith("blocks.")})
    for i in range(layers):
        block = {key.removeprefix(f"blocks.{i}."): value for key, value in weights.items()}
        x = x + _attend(block, _norm(block, "norm1", x), turn, heads)
        hidden = _linear(block, "mlp.fc1", _norm(block, "norm2", x))
        hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
        x = x + _linear(block, "mlp.fc2", hidden)
    return _norm(weights, "norms_block.3", x)


def _angles(frames: int, rows: int, columns: int, head: int, grid: int) -> Tensor:
    """By which each pair of neighbouring dims is turned: (tokens, head / 2)."""
    pairs = head // 3 // 2
    found = torch.zeros(frames, rows, columns, head // 2)
    for pair in range(pairs):
        frequency = 10000.0 ** (-pair / pairs)
        for t in range(frames):
            found[t, :, :, pair] = t * frequency
        for row in range(rows):
            found[:, row, :, pairs + pair] = row * (grid - 1) / (rows - 1) * frequency
        for column in range(columns):
            found[:, :, column, 2 * pairs + pair] = column * (grid - 1) / (columns - 1) * frequency
    return found.flatten(0, 2)


def _attend(block: Weights, x: Tensor, turn: Tensor, heads: int) -> Tensor:
    q, k, v = _linear(block, "attn.qkv", x).unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
    q, k = (torch.view_as_real(torch.view_as_complex(t.unflatten(-1, (-1, 2)).contiguous()) * turn) for t in (q, k))
    scores = torch.einsum("bhqpc,bhkpc->bhqk", q, k) / math.sqrt(v.shape[-1])
    return _linear(block, "attn.proj", torch.einsum("bhqk,bhkd->bqhd", scores.softmax(-1), v).flatten(2))


def _linear(block: Weights, name: str, x: Tensor) -> Tensor:
    return x @ block[f"{name}.weight"].T + block[f"{name}.bias"]


def _norm(block: Weights, name: str, x: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return (
        centred / (centred.square().mean(-1, keepdim=True) + EPS).sqrt() * block[f"{name}.weight"]
        + block[f"{name}.bias"]
    )
