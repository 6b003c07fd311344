"""Tables of rotary position embeddings (RoPE), computed once in fp32 and exported as constants.

No checkpoint holds them, so they are made on the CPU even where a module is built on the meta device.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vlj_edge.presets import Llama

# Side in pixels of the pictures that V-JEPA 2.1 was trained on; the positions of larger ones are scaled to its range.
_TRAINED_SIDE = 256
_CPU = torch.device("cpu")


def vjepa_tables(
    frames: int, rows: int, columns: int, head_dim: int, squeezed_patch: int | None = None
) -> tuple[Tensor, Tensor]:
    """V-JEPA 2's 3-D RoPE as (cos, sin), float32, each (frames * rows * columns, head_dim), tokens in T, H, W order.

    Each axis rotates d = 2 * ((head_dim // 3) // 2) dims: time, then height, then width; the rest is not rotated.
    The d/2 frequencies are TILED over the axis ([f0..f9, f0..f9]) although the rotation pairs ADJACENT dims. It looks
    like an error, but the checkpoints were trained so (transformers models/vjepa2, rotate_queries_or_keys).

    `squeezed_patch`, the patch in pixels, gives V-JEPA 2.1's tables: both dims of a pair have one frequency, and
    rows and columns run from 0 to 256 / patch - 1 however many there are (facebookresearch/vjepa2, app/vjepa_2_1).

    The sine carries the sign of the rotation, so that rotating x is `x * cos + x[..., adjacent_swap(d)] * sin`.
    """
    axis = 2 * ((head_dim // 3) // 2)
    frequencies = 1.0 / 10000 ** (torch.arange(axis // 2, dtype=torch.float32, device=_CPU) / (axis / 2))
    position = torch.arange(frames * rows * columns, device=_CPU)
    coordinates = [position // (rows * columns), position % (rows * columns) // columns, position % columns]
    coordinates = [p.float() for p in coordinates]
    if squeezed_patch is None:
        frequencies = frequencies.repeat(2)
    else:
        frequencies = frequencies.repeat_interleave(2)
        last = _TRAINED_SIDE // squeezed_patch - 1
        for i, count in ((1, rows), (2, columns)):
            coordinates[i] = coordinates[i] * last / max(count - 1, 1)
    angles = [torch.outer(p, frequencies) for p in coordinates]
    angles.append(torch.zeros(len(position), head_dim - 3 * axis, device=_CPU))
    angle = torch.cat(angles, dim=-1)
    sign = torch.tensor([-1.0, 1.0], device=_CPU).repeat(head_dim // 2)
    return angle.cos(), angle.sin() * sign


def perception_tables(side: int, head_dim: int, class_token: bool) -> tuple[Tensor, Tensor]:
    """Perception Encoder's 2-D RoPE as (cos, sin), float32, each (tokens, head_dim): side * side patches, H, W order.

    The first half of the dims is rotated by the column, the second by the row, and both dims of a pair have one
    frequency (timm, RotaryEmbeddingCat). A class token comes first and is not rotated; patches then count from 1. The
    sine carries the sign, as in vjepa_tables().
    """
    count, first = head_dim // 4, int(class_token)
    frequencies = 1.0 / 10000 ** (torch.arange(count, dtype=torch.float32, device=_CPU) / count)
    position = torch.arange(side * side, device=_CPU)
    columns, rows = ((p + first).float() for p in (position % side, position // side))
    angle = torch.cat((torch.outer(columns, frequencies), torch.outer(rows, frequencies)), dim=-1)
    angle = torch.cat((torch.zeros(first, 2 * count, device=_CPU), angle)).repeat_interleave(2, -1)
    sign = torch.tensor([-1.0, 1.0], device=_CPU).repeat(head_dim // 2)
    return angle.cos(), angle.sin() * sign


def adjacent_swap(head_dim: int) -> Tensor:
    """Return the index that swaps neighbours, (1, 0, 3, 2, ...), int64 (head_dim,)."""
    return torch.arange(head_dim, device=_CPU).view(-1, 2).flip(-1).flatten()


def halves(head_dim: int) -> Tensor:
    """Return the index (0, 2, 4, ..., 1, 3, 5, ...), int64 (head_dim,): the first dim of each pair, then the second."""
    return torch.arange(head_dim, device=_CPU).view(-1, 2).T.flatten()


def llama_tables(config: Llama, length: int) -> tuple[Tensor, Tensor]:
    """Llama's RoPE as (cos, sin), float32, each (1, length, head_dim / 2), for the rotate-half layout.

    With `rope_scaling`, the frequencies follow transformers modeling_rope_utils, "llama3".
    """
    exponent = torch.arange(0, config.head_dim, 2, dtype=torch.float32, device=_CPU) / config.head_dim
    frequencies = 1.0 / config.rope_theta**exponent
    scaling = config.rope_scaling
    if scaling is not None:
        wavelength = 2 * math.pi / frequencies
        smooth = (scaling.original_context / wavelength - scaling.low) / (scaling.high - scaling.low)
        blended = (1 - smooth.clamp(0, 1)) * frequencies / scaling.factor + smooth.clamp(0, 1) * frequencies
        frequencies = blended
    angle = torch.outer(torch.arange(length, dtype=torch.float32, device=_CPU), frequencies)
    return angle.cos()[None], angle.sin()[None]
