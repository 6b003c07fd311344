"""The text decoder, which turns an embedding into a text. The VL-JEPA paper leaves its architecture open."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vlj_edge.presets import Preset

from . import ops, rope
from .llama import Block, masked_attention
from .ops import RMSNorm


class Decoder(nn.Module):
    """Causal Llama with tied embeddings. Position 0 holds the projected embedding and outputs the first token:
    a text of n tokens takes n steps."""

    cos: Tensor
    sin: Tensor

    def __init__(self, preset: Preset) -> None:
        super().__init__()
        self.config = config = preset.decoder
        self.capacity = preset.decoder_tokens
        self.prefix_proj = nn.Linear(preset.embedding, config.width)
        self.embed_tokens = nn.Embedding(config.vocabulary, config.width)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = RMSNorm(config.width, eps=config.norm_eps)
        cos, sin = rope.llama_tables(config, self.capacity)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(self, embedding: Tensor, tokens: Tensor) -> Tensor:
        """Return all logits, for training: (batch, embedding), int64 (batch, n) -> (batch, n + 1, vocabulary).

        logits[:, i] predict tokens[:, i]; the last row predicts what follows.
        """
        dtype = self.embed_tokens.weight.dtype
        x = torch.cat((self.prefix_proj(embedding.to(dtype))[:, None], self.embed_tokens(tokens)), dim=1).float()
        n = x.shape[1]
        cos, sin = self.cos[:, :n].to(dtype), self.sin[:, :n].to(dtype)
        causal = torch.ones(1, 1, n, n, dtype=torch.bool, device=x.device).tril()
        attend = masked_attention(self.config, causal)
        for layer in self.layers:
            x = layer(x, cos, sin, attend)
        return self._logits(x)

    def step(
        self, embedding: Tensor, token: Tensor, position: Tensor, caches: list[Tensor]
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Decode one position.

        Args:
            embedding: float32 (1, embedding).
            token: the previous token, int64 (1, 1); ignored at position 0.
            position: int64 (1,).
            caches: a key and a value cache for each layer, each (1, kv_heads, capacity, head_dim).

        Returns:
            The most likely next token (1, 1), the logits (1, vocabulary) in fp32, and the updated caches.
        """
        dtype = self.embed_tokens.weight.dtype
        prefix = self.prefix_proj(embedding.to(dtype))[:, None]
        x = torch.where(position[:, None, None] == 0, prefix, self.embed_tokens(token)).float()
        cos, sin = self.cos.to(dtype).index_select(1, position), self.sin.to(dtype).index_select(1, position)
        length, written = position + 1, list[Tensor]()

        def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            for update in (k, v):
                cache = caches[len(written)]
                written.append(ops.write_cache(cache, update, position))
            keys, values = written[-2:]
            return ops.cached_attention(q, keys, values, length, self.config.heads)

        for layer in self.layers:
            x = layer(x, cos, sin, attend)
        logits = self._logits(x)[:, 0]
        return logits.argmax(-1, keepdim=True), logits, written

    def empty_caches(self) -> list[Tensor]:
        """Return zeroed caches for `step`: key and value of each layer in turn."""
        shape = (1, self.config.kv_heads, self.capacity, self.config.head_dim)
        return [self.embed_tokens.weight.new_zeros(shape) for _ in range(2 * self.config.layers)]

    @torch.no_grad()
    def generate(self, embedding: Tensor, end: int) -> list[int]:
        """Return the greedy tokens for one embedding (1, embedding), without the end token."""
        caches, token, tokens = self.empty_caches(), torch.zeros(1, 1, dtype=torch.int64), list[int]()
        for position in range(self.capacity):
            token, _, caches = self.step(embedding, token, torch.tensor([position]), caches)
            if token.item() == end:
                break
            tokens.append(int(token.item()))
        return tokens

    def _logits(self, x: Tensor) -> Tensor:
        table = self.embed_tokens.weight
        logits: Tensor = self.norm(x).to(table.dtype) @ table.t()
        return logits.float()
