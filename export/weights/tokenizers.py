"""The bundle's tokenizers: copied from the weights, and used for parity in the same way as the runtime uses them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tokenizers

from vlj_edge.bundle import TokenizerSpec

from .files import read_tokenizer
from .locations import DECODER_TOKENIZER, QUERY_TOKENIZER
from .sources import Weights

TEXT_TOKENIZER = "text_encoder_tokenizer.json"


@dataclass(frozen=True)
class FixedLengthTokenizer:
    """A tokenizer that cuts or pads every text to `spec.length` ids."""

    spec: TokenizerSpec
    tokenizer: tokenizers.Tokenizer

    def encode(self, text: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Return ids (int64) and mask (bool), both (1, spec.length)."""
        ids = self.tokenizer.encode(self.spec.text_prefix + text).ids
        row = np.full((1, self.spec.length), self.spec.pad, np.int64)
        row[0, : len(ids)] = ids
        return row, np.arange(self.spec.length)[None] < len(ids)


@dataclass(frozen=True)
class BundleTokenizers:
    """One tokenizer for each engine that reads or writes text."""

    query: FixedLengthTokenizer
    decoder: FixedLengthTokenizer | None  # None without a decoder engine
    text_encoder: FixedLengthTokenizer

    def specs(self) -> dict[str, TokenizerSpec]:
        """Return the manifest's entries by their names there."""
        return {name: part.spec for name, part in vars(self).items() if part is not None}


def write_tokenizers(weights: Weights, directory: Path) -> BundleTokenizers:
    """Write the tokenizers into the bundle's directory, without padding or truncation of their own."""
    preset, text = weights.preset, weights.text
    query = TokenizerSpec(QUERY_TOKENIZER, preset.query_tokens, preset.query_pad)
    output = TokenizerSpec(DECODER_TOKENIZER, preset.decoder_tokens, preset.query_pad, preset.decoder_end)
    text_input = TokenizerSpec(TEXT_TOKENIZER, preset.text.tokens, text.pad, text_prefix=text.text_prefix)
    decoder = weights.decoder_tokenizer
    return BundleTokenizers(
        query=_write(weights.query_tokenizer, directory, query),
        decoder=_write(decoder, directory, output) if decoder is not None else None,
        text_encoder=_write(read_tokenizer(text.tokenizer), directory, text_input),
    )


def _write(tokenizer: tokenizers.Tokenizer, directory: Path, spec: TokenizerSpec) -> FixedLengthTokenizer:
    (directory / spec.file).write_text(tokenizer.to_str(), encoding="utf-8")
    tokenizer.enable_truncation(spec.length)
    return FixedLengthTokenizer(spec, tokenizer)
