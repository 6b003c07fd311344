"""X-CLIP's towers: the parts of transformers' XCLIPModel that make an embedding of a video and of a text."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ..models import ops


class VideoTower(nn.Module):
    """The image encoder, whose frames exchange messages in every layer, and the transformer that joins them."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.encoder, self.projection, self.joined = model.vision_model, model.visual_projection, model.mit

    def forward(self, pixels: Tensor) -> Tensor:
        """(1, frames, 3, side, side) -> (1, embedding), unit length, fp32."""
        images = pixels[0].to(self.projection.weight.dtype)
        frames = self.projection(self.encoder(pixel_values=images).pooler_output)
        return ops.unit(self.joined(frames[None]).pooler_output)


class TextTower(nn.Module):
    """The text encoder. Its attention is causal, and it reads the text's last token, before the padding."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.encoder, self.projection = model.text_model, model.text_projection

    def forward(self, text_ids: Tensor, text_mask: Tensor) -> Tensor:
        """int64 (1, n), bool (1, n), which is not used -> (1, embedding), unit length, fp32."""
        return ops.unit(self.projection(self.encoder(input_ids=text_ids).pooler_output))
