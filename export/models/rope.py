"""Rotary position tables, computed once in fp32 and kept as constants, so that no engine computes a sine.

They are made on the CPU also where a module is built on the meta device, because no checkpoint holds them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vlj_edge.presets import Llama

# Pixels on a side that V-JEPA 2.1's positions were trained on: with larger pictures they are squeezed into as many.
_TRAINED_SIDE = 256
_CPU = torch.device("cpu")


def vjepa_tables(
    frames: int, rows: int, columns: int, head_dim: int, squeezed_patch: int | None = None
) -> tuple[Tensor, Tensor]:
    """V-JEPA 2's 3-D RoPE as (cos, sin), float32, each (frames * rows * columns, head_dim), tokens in T, H, W order.

    Each axis rotates d = 2 * ((head_dim // 3) // 2) dims: time, then height, then width; what is left is not rotated.
    What looks like an error is the checkpoint's own and must stay (transformers models/vjepa2, rotate_queries_or_keys):
    the d/2 frequencies are TILED over the axis ([f0..f9, f0..f9]) although the rotation pairs ADJACENT dims.

    With `squeezed_patch`, the patch in pixels, they are V-JEPA 2.1's: both dims of a pair turn at one frequency, and
    rows and columns run from 0 to 256 / patch - 1 whatever their number (facebookresearch/vjepa2, app/vjepa_2_1).

    The sine carries the sign of the rotation, so that rotating x is `x * cos + x[..., adjacent_swap(d)] * sin`.
    """
    axis = 2 * ((head_dim // 3) // 2)
    frequencies = 1.0 / 10000 ** (torch.arange(axis // 2, dtype=torch.float32, device=_CPU) / (axis / 2))
    position = torch.arange(frames * rows * columns, device=_CPU)
    place = [position // (rows * columns), position % (rows * columns) // columns, position % columns]
    place = [p.float() for p in place]
    if squeezed_patch is None:
        frequencies = frequencies.repeat(2)
    else:
        frequencies = frequencies.repeat_interleave(2)
        last = _TRAINED_SIDE // squeezed_patch - 1
        place[1:] = (p * last / max(count - 1, 1) for p, count in zip(place[1:], (rows, columns), strict=True))
    angles = [torch.outer(p, frequencies) for p in place]
    angles.append(torch.zeros(len(position), head_dim - 3 * axis, device=_CPU))
    angle = torch.cat(angles, dim=-1)
    sign = torch.tensor([-1.0, 1.0], device=_CPU).repeat(head_dim // 2)
    return angle.cos(), angle.sin() * sign


def adjacent_swap(head_dim: int) -> Tensor:
    """The index (1, 0, 3, 2, ...), int64 (head_dim,): each dim is rotated together with its neighbour."""
    return torch.arange(head_dim, device=_CPU).view(-1, 2).flip(-1).flatten()


def halves(head_dim: int) -> Tensor:
    """The index (0, 2, 4, ..., 1, 3, 5, ...), int64 (head_dim,): the first of every pair, then the second ones."""
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
