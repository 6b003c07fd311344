"""SigLIP 2 NaFlex's vision tower for pictures of one square shape."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..models import ops


class NaflexTower(nn.Module):
    """The encoder of single images, applied to the frames of a clip at once.

    With one shape, the projection of patches is a convolution, the resized position embeddings are constants, and there
    is no padding to mask.

    Args:
        tower: transformers' Siglip2VisionModel.
        side: pixels of a frame's side.
    """

    positions: Tensor

    def __init__(self, tower: Any, side: int) -> None:
        super().__init__()
        embeddings = tower.embeddings
        linear, patch = embeddings.patch_embedding, embeddings.patch_size
        grid, own = side // patch, embeddings.position_embedding_size
        self.patch_embed = nn.Conv2d(3, linear.out_features, patch, patch)
        kernel = linear.weight.detach().view(-1, patch, patch, 3).permute(0, 3, 1, 2)  # patches are rows, columns, RGB
        self.patch_embed.weight.data, self.patch_embed.bias = kernel.contiguous(), linear.bias
        table = embeddings.position_embedding.weight.detach().view(own, own, -1)
        positions = embeddings.resize_positional_embeddings(table, torch.tensor([[grid, grid]]), grid * grid)
        self.register_buffer("positions", positions, persistent=False)
        self.encoder, self.norm, self.head = tower.encoder, tower.post_layernorm, tower.head

    def forward(self, pixels: Tensor) -> Tensor:
        """(1, frames, 3, side, side) -> (1, embedding), fp32, the unit mean of the frames' unit embeddings."""
        patches = self.patch_embed(pixels[0].to(self.patch_embed.weight.dtype)).flatten(2).transpose(1, 2)
        hidden = self.encoder(inputs_embeds=patches + self.positions, attention_mask=None).last_hidden_state
        return ops.unit_mean(self.head(self.norm(hidden), None))
