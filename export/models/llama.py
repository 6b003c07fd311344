"""The Llama block: bidirectional in the predictor, causal with a cache in the decoder.

Submodules carry the names of the Llama checkpoints (`self_attn.q_proj`, `mlp.gate_proj`, ...), so weights map by name.
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from vlj_edge.presets import Llama

from . import ops
from .ops import RMSNorm

# (rotated queries, rotated keys, values) -> output in the shape of the queries; the last axis holds all heads.
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


class SelfAttention(nn.Module):
    """Grouped-query projections and rotate-half RoPE; the caller passes the attention between them."""

    def __init__(self, config: Llama) -> None:
        super().__init__()
        self.heads, self.kv_heads = config.heads, config.kv_heads
        self.q_proj = nn.Linear(config.width, config.heads * config.head_dim, bias=False)
        self.k_proj = nn.Linear(config.width, config.kv_heads * config.head_dim, bias=False)
        self.v_proj = nn.Linear(config.width, config.kv_heads * config.head_dim, bias=False)
        self.o_proj = nn.Linear(config.heads * config.head_dim, config.width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, attend: Attend) -> Tensor:
        q = ops.rotate_half(self.q_proj(x), cos, sin, self.heads)
        k = ops.rotate_half(self.k_proj(x), cos, sin, self.kv_heads)
        y: Tensor = self.o_proj(attend(q, k, self.v_proj(x)))
        return y


class MLP(nn.Module):
    """A SwiGLU feed-forward network."""

    def __init__(self, config: Llama) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.width, config.mlp, bias=False)
        self.up_proj = nn.Linear(config.width, config.mlp, bias=False)
        self.down_proj = nn.Linear(config.mlp, config.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return y


class Block(nn.Module):
    """Pre-norm attention and MLP, each with a residual."""

    def __init__(self, config: Llama) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.width, eps=config.norm_eps)
        self.self_attn = SelfAttention(config)
        self.post_attention_layernorm = RMSNorm(config.width, eps=config.norm_eps)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, attend: Attend) -> Tensor:
        # x, the residual stream, is fp32 in every precision; what is added to it is computed in that of the weights.
        dtype = self.mlp.up_proj.weight.dtype
        x = x + self.self_attn(self.input_layernorm(x).to(dtype), cos, sin, attend).float()
        y: Tensor = x + self.mlp(self.post_attention_layernorm(x).to(dtype)).float()
        return y


def masked_attention(config: Llama, mask: Tensor) -> Attend:
    """Return attention without a cache; mask as in `ops.attention`."""
    return lambda q, k, v: ops.attention(q, k, v, config.heads, config.kv_heads, mask)
