"""The fused flavour: one matrix product makes queries, keys and values, and one node rotates them and attends.

The node is this project's CUDA kernel, which only TensorRT runs (export/onnx/plugins.py). It expects the values of a
head in the checkpoint's order. It keeps the angles in fp32; the native predictor rounds them to 16 bits.
"""

from __future__ import annotations

from math import isqrt
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vlj_edge.cuda.attention import Table, axes_table, halves_table
from vlj_edge.presets import Clip
from vlj_edge.presets import VisionEncoder as VisionConfig

from ..onnx import plugins
from . import ops
from .llama import SelfAttention
from .predictor import Predictor
from .vision_encoder import VisionEncoder

_BYTE_WEIGHTS = (1, 1 << 8, 1 << 16, 1 << 24)  # of the bytes of an int32; GPUs are little-endian


def fuse(module: nn.Module, dtype: str, vision: VisionConfig, clip: Clip) -> None:
    """Replace the attention of a vision encoder or a predictor by the kernel's node, in place. The module can then be
    cast and exported, but not run.

    Args:
        dtype: the type that the module will be cast to, "float16" or "bfloat16".

    Raises:
        VljEdgeError: the kernel does not support the type, the heads, the length or the rotary tables.
        TypeError: the module is neither.
    """
    if isinstance(module, VisionEncoder):
        times = clip.frames // min(vision.tubelet, clip.frames)
        side = isqrt(len(module.cos) // times)
        heads, picture = (vision.heads, vision.heads), (side, side)
        shape = (1, len(module.cos), 3 * vision.width)
        plugins.launch(plugins.AXES, dtype, shape, heads, picture)  # raises if the kernel does not support this
        rotary = _Rotary(axes_table(_numpy(module.cos[:, 0]), _numpy(module.sin[:, 0]), side, side))
        for block in module.blocks:
            block.attention = _ByAxes(block.attention, rotary, heads, picture)
        module.rotary = rotary  # names the weight that all layers share in the graph
    elif isinstance(module, Predictor):
        config = module.config
        heads = (config.heads, config.kv_heads)
        shape = (1, module.cos.shape[1], (config.heads + 2 * config.kv_heads) * config.head_dim)
        plugins.launch(plugins.HALVES, dtype, shape, heads)  # raises if the kernel does not support this
        rotary = _Rotary(halves_table(_numpy(module.cos[0]), _numpy(module.sin[0])))
        for layer in module.layers:
            layer.self_attn = _ByHalves(layer.self_attn, rotary, heads)  # type: ignore[arg-type]
        module.rotary = rotary
        module.attention_of = key_mask_bytes  # type: ignore[method-assign, assignment]
    else:
        raise TypeError(f"{type(module).__name__} has no attention that can be fused")


def add_qkv_ranges(ranges: dict[str, float]) -> dict[str, float]:
    """Add the input ranges of the fused qkv_proj layers, which are those of q_proj, to a predictor's ranges."""
    fused = {name.replace(".q_proj", ".qkv_proj"): value for name, value in ranges.items() if name.endswith(".q_proj")}
    return ranges | fused


def key_mask_bytes(real: Tensor) -> Tensor:
    """Pack the node's key_mask: bool (1, n) -> int32 (1, ceil(n / 4)), whose bytes are 1 for True."""
    bits, missing = real.to(torch.int32), -real.shape[1] % 4
    if missing:
        bits = torch.cat((bits, torch.zeros(1, missing, dtype=torch.int32)), dim=1)
    four = bits.view(1, -1, 4) * torch.tensor(_BYTE_WEIGHTS, dtype=torch.int32)
    return four.sum(-1, dtype=torch.int32)


class _Rotary(ops.StaysFp32, nn.Module):
    """The kernel's rotary table, float32 [entries, 4]. All layers share it, and casts leave it as it is."""

    table: Tensor

    def __init__(self, table: Table) -> None:
        super().__init__()
        self.register_buffer("table", torch.from_numpy(table), persistent=False)


class _ByAxes(nn.Module):
    """The vision encoder's attention as one node; the projections keep their names."""

    def __init__(self, replaced: Any, rotary: _Rotary, heads: tuple[int, int], picture: tuple[int, int]) -> None:
        super().__init__()
        self.qkv, self.proj = replaced.qkv, replaced.proj
        self.rotary, self.heads, self.picture = rotary, heads, picture

    def forward(self, x: Tensor, *tables: Tensor) -> Tensor:
        y: Tensor = self.proj(
            _node(plugins.AXES, self.qkv(x), self.rotary.table, heads=self.heads, picture=self.picture)
        )
        return y


class _ByHalves(nn.Module):
    """A Llama block's attention as one node, with its three projections as one."""

    def __init__(self, replaced: SelfAttention, rotary: _Rotary, heads: tuple[int, int]) -> None:
        super().__init__()
        parts = [part.weight for part in (replaced.q_proj, replaced.k_proj, replaced.v_proj)]
        self.qkv_proj = nn.Linear(parts[0].shape[1], sum(len(part) for part in parts), bias=False, device="meta")
        self.qkv_proj.weight = nn.Parameter(torch.cat(parts), requires_grad=False)
        self.o_proj = replaced.o_proj
        self.rotary, self.heads = rotary, heads

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, key_mask: Tensor) -> Tensor:
        y: Tensor = self.o_proj(_node(plugins.HALVES, self.qkv_proj(x), self.rotary.table, key_mask, heads=self.heads))
        return y


def _node(plugin: plugins.Plugin, qkv: Tensor, *others: Tensor, **attributes: tuple[int, int]) -> Tensor:
    heads = attributes["heads"]
    width = qkv.shape[-1] // (heads[0] + 2 * heads[1]) * heads[0]
    # aot, ahead of time: the engine contains the kernel itself and runs without Python.
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


def _numpy(table: Tensor) -> Table:
    return np.ascontiguousarray(table.numpy(), np.float32)
