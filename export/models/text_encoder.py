"""The text encoder: a sentence encoder from transformers under a trained projection to the shared space."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from . import ops


def mean_pool(hidden: Tensor, mask: Tensor) -> Tensor:
    """Return the mean over the real tokens: (batch, n, width), bool (batch, n) -> (batch, width)."""
    weight = mask.to(hidden.dtype)[..., None]
    return (hidden * weight).sum(1) / weight.sum(1)


class TextEncoder(nn.Module):
    """Sentences to embeddings. `backbone` is any transformers encoder that returns `last_hidden_state`."""

    def __init__(self, backbone: Any, projection: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.projection = projection

    def forward(self, text_ids: Tensor, text_mask: Tensor) -> Tensor:
        """int64 (batch, n), bool (batch, n), True for real tokens -> (batch, embedding), unit length, fp32."""
        hidden = self.backbone(input_ids=text_ids, attention_mask=text_mask).last_hidden_state
        return ops.unit(self.projection(mean_pool(hidden, text_mask)))
