"""The modules of things. Large weights are int8 or int4 in the file; the runtime unpacks int8 once, at loading."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..models import ops
from ..models.stem import BLOCKS, LATER_BLOCKS, ImageStem, fold_norm, stem_weights
from ..models.text_encoder import TextEncoder
from ..onnx.quantize import quantize_blocks
from ..weights.text_encoders import TextBackbone
from ..weights.tokenizers import FixedLengthTokenizer
from .things import Class, read_classes

_BLOCK = 32  # values of the token table that share a scale
_FARTHER = 0.5  # weight of a hypernym by that of the one below it, the names together being 1
_BATCH = 64


class Int8Linear(nn.Module):
    """A linear layer whose weight is int8 with one scale an output. Also reads a 1 x 1 convolution's weight."""

    weight: Tensor
    scale: Tensor

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        scale = weight.flatten(1).abs().amax(1).clamp_min(1e-12) / 127
        scale = scale.reshape(-1, *[1] * (weight.dim() - 1))
        self.register_buffer("scale", scale)
        self.register_buffer("weight", (weight / scale).round().to(torch.int8))
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.to(self.scale.dtype) * self.scale, self.bias)


class Int8Conv1x1(Int8Linear):
    """A 1 x 1 convolution, stored in the same way."""

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight.to(self.scale.dtype) * self.scale, self.bias)


class Int4Table(nn.Module):
    """A token table of int4, two in a byte, with a scale for 32 values of a row, itself one of 255 steps."""

    packed: Tensor
    steps: Tensor
    step: Tensor

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        blocks = table.reshape(len(table), -1, _BLOCK)
        scale = torch.from_numpy(quantize_blocks(table.numpy(), 1, "int4")[1])
        step = scale.max() / 255
        steps = (scale / step).round().clamp_min(1)
        stored = (blocks / (steps * step)[..., None]).round().clamp(-7, 7).flatten(1) + 8
        self.register_buffer("packed", (stored[:, 0::2] * 16 + stored[:, 1::2]).to(torch.uint8))
        self.register_buffer("steps", steps.to(torch.uint8))
        self.register_buffer("step", step)

    def forward(self, ids: Tensor) -> Tensor:
        """int64 (batch, n) -> (batch, n, width)."""
        pairs = self.packed[ids].to(self.step.dtype)
        first = torch.floor(pairs / 16)
        values = torch.stack((first, pairs - 16 * first), -1).flatten(-2) - 8
        scale = self.steps[ids].to(self.step.dtype) * self.step
        blocks = values.reshape(*scale.shape, _BLOCK)
        return (blocks * scale[..., None]).flatten(-2)


class ThingsEncoder(nn.Module):
    """EfficientNet-Lite0, and an embedding for each of its classes, float32 (classes, embedding)."""

    def __init__(self, weights: dict[str, Tensor], classes: Tensor) -> None:
        super().__init__()
        blocks = BLOCKS + LATER_BLOCKS
        self.features = ImageStem(blocks)
        self.features.load_state_dict(stem_weights(weights, blocks))
        head = fold_norm(weights, "_conv_head", "_bn1", "head")
        self.head = Int8Conv1x1(head["head.weight"], head["head.bias"])
        self.logits = Int8Linear(weights["_fc.weight"], weights["_fc.bias"])
        self.embeddings = Int8Linear(classes.t().contiguous(), None)

    def forward(self, pixels: Tensor) -> Tensor:
        """(1, frames, 3, side, side) -> (1, embedding), fp32, unit length.

        Frames are averaged as probabilities, so that those in which the classifier is sure count for more.
        """
        images = pixels[0].to(self.logits.scale.dtype)
        pooled = F.relu6(self.head(self.features(images))).mean((2, 3))
        probabilities = self.logits(pooled).float().softmax(-1).mean(0, keepdim=True)
        return ops.unit(self.embeddings(probabilities.to(self.embeddings.scale.dtype)))


def load_classifier(file: Path, backbone: TextBackbone, tokenizer: FixedLengthTokenizer) -> nn.Module:
    """Return the vision encoder. The embeddings of its classes are MiniLM's as published, not as stored here."""
    weights = torch.load(file, map_location="cpu", weights_only=True)
    classes = class_embeddings(read_classes(), TextEncoder(backbone.load(), nn.Identity()), tokenizer)
    module = ThingsEncoder(weights, classes).eval().requires_grad_(False)
    _store_convolutions(module.features)
    return module


def load_text_encoder(backbone: TextBackbone, tokens: int) -> nn.Module:
    """Return MiniLM for texts of at most `tokens`."""
    model = backbone.load()
    model.pooler = None
    _store_linears(model)
    embeddings = model.embeddings
    embeddings.word_embeddings = Int4Table(embeddings.word_embeddings.weight.detach())
    positions = embeddings.position_embeddings
    positions.weight = nn.Parameter(positions.weight[:tokens].detach(), requires_grad=False)
    return TextEncoder(model, nn.Identity()).eval().requires_grad_(False)


@torch.no_grad()
def class_embeddings(classes: list[Class], encoder: nn.Module, tokenizer: FixedLengthTokenizer) -> Tensor:
    """Return float32 (classes, embedding), unit length, without what all classes have in common."""
    texts = list(dict.fromkeys(text for each in classes for text in each.names + each.hypernyms))
    found = []
    for first in range(0, len(texts), _BATCH):
        inputs = zip(*map(tokenizer.encode, texts[first : first + _BATCH]), strict=True)
        ids, mask = (torch.from_numpy(np.concatenate(each)) for each in inputs)
        longest = int(mask.sum(1).max())
        found.append(encoder(ids[:, :longest], mask[:, :longest]))
    embedding = dict(zip(texts, torch.cat(found), strict=True))
    rows = ops.unit(torch.stack([_weighted(each, embedding) for each in classes]))
    return ops.unit(rows - rows.mean(0, keepdim=True))


def _weighted(each: Class, embedding: dict[str, Tensor]) -> Tensor:
    names = torch.stack([embedding[name] for name in each.names]).mean(0)
    above = [embedding[name] * _FARTHER ** (i + 1) for i, name in enumerate(each.hypernyms)]
    return torch.stack([names, *above]).sum(0)


def _store_convolutions(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.Conv2d) and child.kernel_size == (1, 1):
            assert child.bias is not None
            setattr(module, name, Int8Conv1x1(child.weight.detach(), child.bias.detach()))
        else:
            _store_convolutions(child)


def _store_linears(module: Any) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.Linear):
            setattr(module, name, Int8Linear(child.weight.detach(), child.bias.detach()))
        else:
            _store_linears(child)
