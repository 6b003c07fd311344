"""The fused flavour: queries, keys and values in one product, and behind it one node that turns and attends.

The node is this project's CUDA kernel, which TensorRT alone runs (export/onnx/plugins.py). It wants the checkpoint's
own order of values in a head, neighbours turned together, and keeps the angles in fp32, also those that a native
predictor rounds to 16 bits.
"""

from __future__ import annotations

from math import isqrt
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vlj_edge.cuda import kernels
from vlj_edge.presets import Clip
from vlj_edge.presets import VisionEncoder as VisionConfig

from ..onnx import plugins
from . import ops
from .llama import SelfAttention
from .predictor import Predictor
from .vision_encoder import VisionEncoder

_BYTES = (1, 1 << 8, 1 << 16, 1 << 24)  # what a byte is worth in an int32; every card is little-endian


def fuse(module: nn.Module, dtype: str, vision: VisionConfig, clip: Clip) -> None:
    """Put the node into a vision encoder or a predictor, in place, before it is cast. It can only be exported then.

    Args:
        dtype: that it will be cast to, "float16" or "bfloat16".

    Raises:
        VljEdgeError: the kernel does not serve its type, heads, length or tables; the message says what it serves.
    """
    if isinstance(module, VisionEncoder):
        times = clip.frames // min(vision.tubelet, clip.frames)
        side = isqrt(len(module.cos) // times)
        heads, picture = (vision.heads, vision.heads), (side, side)
        shape = (1, len(module.cos), 3 * vision.width)
        plugins.launch(plugins.AXES, dtype, shape, heads, picture)  # raises
        turns = _Turns(kernels.axes_turns(_numpy(module.cos[:, 0]), _numpy(module.sin[:, 0]), side, side))
        for block in module.blocks:
            block.attention = _ByAxes(block.attention, turns, heads, picture)
        module.turns = turns  # the last of its names, and the one that the graph has
    elif isinstance(module, Predictor):
        config = module.config
        heads = (config.heads, config.kv_heads)
        shape = (1, module.cos.shape[1], (config.heads + 2 * config.kv_heads) * config.head_dim)
        plugins.launch(plugins.HALVES, dtype, shape, heads)  # raises
        turns = _Turns(kernels.halves_turns(_numpy(module.cos[0]), _numpy(module.sin[0])))
        for layer in module.layers:
            layer.self_attn = _ByHalves(layer.self_attn, turns, heads)  # type: ignore[arg-type]
        module.turns = turns
        module.attending = seen_bytes  # type: ignore[method-assign, assignment]
    else:
        raise TypeError(f"{type(module).__name__} has no attention that could be fused")


def packed_ranges(ranges: dict[str, float]) -> dict[str, float]:
    """What precision.observe() saw of a predictor, with the packed product's name: q, k and v have one input."""
    mine = {name.replace(".q_proj", ".qkv_proj"): seen for name, seen in ranges.items() if name.endswith(".q_proj")}
    return ranges | mine


def seen_bytes(real: Tensor) -> Tensor:
    """bool (1, n) -> int32 (1, ceil(n / 4)) whose bytes are 1 where it is True: plugins.Plugin, `seen`."""
    bits, missing = real.to(torch.int32), -real.shape[1] % 4
    if missing:
        bits = torch.cat((bits, torch.zeros(1, missing, dtype=torch.int32)), dim=1)
    four = bits.view(1, -1, 4) * torch.tensor(_BYTES, dtype=torch.int32)
    return four.sum(-1, dtype=torch.int32)


class _Turns(ops.StaysFp32, nn.Module):
    """The table of angles, which all layers share and no cast reaches."""

    table: Tensor

    def __init__(self, table: kernels.Table) -> None:
        super().__init__()
        self.register_buffer("table", torch.from_numpy(table), persistent=False)


class _ByAxes(nn.Module):
    """In place of the vision encoder's attention; the projections keep their names."""

    def __init__(self, replaced: Any, turns: _Turns, heads: tuple[int, int], picture: tuple[int, int]) -> None:
        super().__init__()
        self.qkv, self.proj = replaced.qkv, replaced.proj
        self.turns, self.heads, self.picture = turns, heads, picture

    def forward(self, x: Tensor, *tables: Tensor) -> Tensor:
        y: Tensor = self.proj(
            _node(plugins.AXES, self.qkv(x), self.turns.table, heads=self.heads, picture=self.picture)
        )
        return y


class _ByHalves(nn.Module):
    """In place of a Llama block's attention, with the three projections as one."""

    def __init__(self, replaced: SelfAttention, turns: _Turns, heads: tuple[int, int]) -> None:
        super().__init__()
        parts = [part.weight for part in (replaced.q_proj, replaced.k_proj, replaced.v_proj)]
        self.qkv_proj = nn.Linear(parts[0].shape[1], sum(len(part) for part in parts), bias=False, device="meta")
        self.qkv_proj.weight = nn.Parameter(torch.cat(parts), requires_grad=False)
        self.o_proj = replaced.o_proj
        self.turns, self.heads = turns, heads

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, seen: Tensor) -> Tensor:
        y: Tensor = self.o_proj(_node(plugins.HALVES, self.qkv_proj(x), self.turns.table, seen, heads=self.heads))
        return y


def _node(plugin: plugins.Plugin, qkv: Tensor, *others: Tensor, **attributes: tuple[int, int]) -> Tensor:
    heads = attributes["heads"]
    width = qkv.shape[-1] // (heads[0] + 2 * heads[1]) * heads[0]
    # `aot`: the kernel itself goes into the engine, which then needs no Python to run.
    attrs: dict[str, Any] = {"plugin_namespace": plugins.DOMAIN, "plugin_version": "1", "aot": 1, **attributes}
    node: Tensor = torch.onnx.ops.symbolic(
        f"{plugins.DOMAIN}::{plugin.name}",
        (qkv, *others),
        attrs=attrs,
        dtype=qkv.dtype,
        shape=(*qkv.shape[:-1], width),
        version=1,
    )
    return node


def _numpy(table: Tensor) -> kernels.Table:
    return np.ascontiguousarray(table.numpy(), np.float32)
