"""VideoPrism's towers: transformers' modules, with soft-capped attention as one ONNX node."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..models import ops
from .loading import load_module, transformers_class

_ATTENTION = "vlj_edge_softcap"  # its name among transformers' implementations of attention


class VideoTower(nn.Module):
    """The video encoder with its auxiliary layers and pooling head."""

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, pixels: Tensor) -> Tensor:
        """(1, frames, 3, side, side) -> (1, embedding), unit length, fp32."""
        video = pixels.to(next(self.tower.parameters()).dtype)
        pooled = self.tower(pixel_values_videos=video).pooler_output
        return ops.unit(pooled.reshape(1, -1))


class TextTower(nn.Module):
    """The text encoder. Its last token, which is not in the tokenizer, sees every token but the padding."""

    def __init__(self, tower: Any) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, text_ids: Tensor, text_mask: Tensor) -> Tensor:
        """int64 (1, n), bool (1, n), True for real tokens -> (1, embedding), unit length, fp32."""
        hidden = self.tower.embeddings(input_ids=text_ids)
        length = hidden.shape[1]
        seen = torch.cat((text_mask, torch.ones_like(text_mask[:, :1])), dim=1)[:, None, None]
        mask = seen & torch.ones(length, length, dtype=torch.bool).tril()
        for layer in self.tower.layers:
            hidden = layer(hidden, mask)
        return ops.unit(self.tower.layernorm(hidden)[:, -1])


def load_video_tower(directory: Path, since: str) -> nn.Module:
    """Load the video tower."""
    return VideoTower(_load(directory, since).video_model).eval()


def load_text_tower(directory: Path, since: str) -> nn.Module:
    """Load the text tower."""
    return TextTower(_load(directory, since).text_model).eval()


def _load(directory: Path, since: str) -> Any:
    kind = transformers_class("VideoPrismClipModel", since)
    transformers_class("AttentionInterface", since).register(_ATTENTION, _attention)
    return load_module(directory, kind, _ATTENTION)


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention as transformers calls it: (batch, heads, tokens, d) -> (batch, tokens, heads, d)."""
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return ops.capped_attention(query, key, value, attention_mask, scale, softcap or 0.0).transpose(1, 2), None
