"""A replacement for the decoder on small devices: it chooses the nearest of a bank of captions."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class NearestCaption(nn.Module):
    """A matrix of caption embeddings, float32 (captions, embedding), unit length."""

    bank: Tensor

    def __init__(self, bank: Tensor) -> None:
        super().__init__()
        self.register_buffer("bank", bank.t().contiguous())

    def forward(self, embedding: Tensor) -> tuple[Tensor, Tensor]:
        """float32 (1, embedding) -> the caption's index, int64 (1, 1), and its cosine, float32 (1, 1)."""
        cosine = (embedding.to(self.bank.dtype) @ self.bank).float()
        return cosine.argmax(-1, keepdim=True), torch.amax(cosine, -1, keepdim=True)
