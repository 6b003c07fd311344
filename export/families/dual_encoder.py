"""Two towers of transformers as engines: pixels -> embedding, token ids -> embedding, in one space."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeAlias

from tokenizers import Tokenizer
from torch import Tensor, nn

from vlj_edge.bundle import LabelSettings, TokenizerSpec
from vlj_edge.presets import ModelShape

from ..models import ops
from ..weights.locations import WeightSources, read_captions
from ..weights.sources import ModuleLoader
from ..weights.tokenizers import TEXT_TOKENIZER, FixedLengthTokenizer
from .loading import load_tokenizer, weight_files
from .model import FamilyModel, caption_bank

TokenizerLoader: TypeAlias = Callable[[Path], tuple[Tokenizer, int]]


class ImageTower(nn.Module):
    """An encoder of single images, applied to the frames of a clip at once.

    Args:
        tower: a module of transformers.
        output: the field of its result that has one embedding an image, (frames, embedding).
    """

    def __init__(self, tower: nn.Module, output: str) -> None:
        super().__init__()
        self.tower, self.output = tower, output

    def forward(self, pixels: Tensor) -> Tensor:
        """(1, frames, 3, side, side) -> (1, embedding), fp32, the unit mean of the frames' unit embeddings."""
        images = pixels[0].to(next(self.tower.parameters()).dtype)
        embeddings = getattr(self.tower(pixel_values=images), self.output)
        return ops.unit_mean(embeddings)


class TextTower(nn.Module):
    """A text encoder whose result does not depend on what is masked. Arguments as for ImageTower."""

    def __init__(self, tower: nn.Module, output: str) -> None:
        super().__init__()
        self.tower, self.output = tower, output

    def forward(self, text_ids: Tensor, text_mask: Tensor) -> Tensor:
        """int64 (1, n), bool (1, n) -> (1, embedding), unit length, fp32.

        The mask is not used: attention is causal and reads the text's last token, before the padding (CLIP), or the
        model was trained with its padding in sight (SigLIP).
        """
        return ops.unit(getattr(self.tower(input_ids=text_ids), self.output))


def open_towers(
    sources: WeightSources,
    shape: ModelShape,
    labels: LabelSettings,
    load_image: ModuleLoader,
    load_text: ModuleLoader,
    load_tokenizer: TokenizerLoader = load_tokenizer,
) -> FamilyModel:
    """Return both towers, the tokenizer of the text tower and, where `sources` names captions, a bank of them.

    Args:
        load_tokenizer: returns the tokenizer of a directory and the id with which it pads.

    Raises:
        VljEdgeError: a file is missing or broken, or a caption is too long for the text tower.
    """
    assert sources.weights is not None and shape.text is not None
    tokenizer, pad = load_tokenizer(sources.weights)
    text = FixedLengthTokenizer(TokenizerSpec(TEXT_TOKENIZER, shape.text.tokens, pad), tokenizer)
    loaders = {"vision_encoder": load_image, "text_encoder": load_text}
    captions = None if sources.captions is None else read_captions(sources.captions)
    if captions is not None and sources.captions is not None:
        text.check(captions, sources.captions)
        loaders["decoder"] = partial(caption_bank, captions, load_text, text)
    files = weight_files(sources.weights)
    return FamilyModel(
        shape=shape,
        loaders=loaders,
        tokenizers={"text_encoder": text},
        files=files,
        largest=sum(path.stat().st_size for path in files),
        captions=captions,
        labels=labels,
    )
