"""The predictor: visual tokens and a query -> the embedding of the answer (VL-JEPA, section 3.1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vlj_edge.presets import Preset

from . import ops, rope
from .llama import Attend, Block, masked_attention
from .ops import RMSNorm


class Predictor(nn.Module):
    """Llama layers without a causal mask over visual and query tokens, then the mean of all outputs but padding.

    What the paper leaves open is as in the public checkpoint (open-vljepa): RoPE positions run over the whole sequence,
    the final norm is applied before the mean, and both projections have a bias.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, preset: Preset, visual_tokens: int) -> None:
        super().__init__()
        self.config = config = preset.predictor
        self.vis_proj = nn.Linear(preset.vision.width, config.width)
        self.embed_tokens = nn.Embedding(config.vocabulary, config.width)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = RMSNorm(config.width, eps=config.norm_eps)
        self.out_proj = nn.Linear(config.width, preset.embedding)
        cos, sin = rope.llama_tables(config, visual_tokens + preset.query_tokens)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(
        self, visual_tokens: Tensor, query_ids: Tensor, query_mask: Tensor, kept: Tensor | None = None
    ) -> Tensor:
        """(batch, n, vision width), int64 (batch, q), bool (batch, q) -> fp32 (batch, embedding), unit length.

        The mask is True for real tokens. Visual tokens may be fewer than the preset's: `kept`, int64 (1, n), names
        them, and they and the query have the positions of the whole sequence. Without it, in training, the positions
        are those of a shorter sequence.
        """
        dtype = self.vis_proj.weight.dtype
        x = torch.cat((self.vis_proj(visual_tokens.to(dtype)), self.embed_tokens(query_ids)), dim=1).float()
        real = torch.cat((torch.ones_like(visual_tokens[..., 0], dtype=torch.bool), query_mask), dim=1)
        cos, sin = self.cos[:, : x.shape[1]], self.sin[:, : x.shape[1]]
        if kept is not None:
            queries = torch.arange(self.cos.shape[1] - query_ids.shape[1], self.cos.shape[1])
            places = torch.cat((kept[0], queries))
            cos, sin = self.cos.index_select(1, places), self.sin.index_select(1, places)
        cos, sin = cos.to(dtype), sin.to(dtype)
        attend = self.attention_of(real)
        for layer in self.layers:
            x = layer(x, cos, sin, attend)
        weight = real.to(x.dtype)[..., None]
        pooled = (self.norm(x) * weight).sum(1) / weight.sum(1)
        return ops.unit(self.out_proj(pooled.to(dtype)))

    def attention_of(self, real: Tensor) -> Attend:
        """Return the attention of all layers; real is bool (batch, n), False for padding. fused.py replaces this."""
        mask = real[:, None, None, :].expand(-1, 1, real.shape[1], -1)  # ONNX Attention needs a row for each query
        return masked_attention(self.config, mask)
