"""A video classifier in two engines, between which there is one unit vector as in every other bundle.

The pooled vector p becomes [p, 1] / |[p, 1]|. From that, p is recovered exactly, by dividing by the last component.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from . import ops
from .vision_encoder import VisionEncoder


class PooledEncoder(nn.Module):
    """An encoder and the pooling of its visual tokens, (1, tokens, width) -> (1, width)."""

    def __init__(self, encoder: VisionEncoder, pooler: nn.Module) -> None:
        super().__init__()
        self.encoder, self.pooler = encoder, pooler

    def forward(self, pixels: Tensor) -> Tensor:
        """(1, frames, 3, side, side) -> (1, width + 1), fp32, unit length."""
        pooled = self.pooler(self.encoder(pixels)).float()
        return ops.unit(torch.cat((pooled, torch.ones_like(pooled[:, :1])), dim=-1))

    def pair_by_halves(self) -> None:
        """See VisionEncoder.pair_by_halves."""
        self.encoder.pair_by_halves()


class LabelHead(nn.Module):
    """The classifier's last layer."""

    def __init__(self, classifier: nn.Linear) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, embedding: Tensor) -> Tensor:
        """fp32 (1, width + 1) -> logits, fp32 (1, labels)."""
        logits: Tensor = self.classifier(embedding[:, :-1] / embedding[:, -1:])
        return logits
