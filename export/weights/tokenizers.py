"""The bundle's tokenizers: copied from the weights, and used for parity in the same way as the runtime uses them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import tokenizers

from vlj_edge.bundle import TokenizerSpec
from vlj_edge.errors import VljEdgeError, printable

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
        self.tokenizer.enable_truncation(self.spec.length)
        ids = self.tokenizer.encode(self.spec.text_prefix + text).ids
        row = np.full((1, self.spec.length), self.spec.pad, np.int64)
        row[0, : len(ids)] = ids
        return row, np.arange(self.spec.length)[None] < len(ids)

    def check(self, texts: Iterable[str], file: Path) -> None:
        """Raise VljEdgeError if encode() would cut one of the texts of a file."""
        self.tokenizer.enable_truncation(self.spec.length)
        for text in texts:
            if self.tokenizer.encode(self.spec.text_prefix + text).overflowing:
                raise VljEdgeError(
                    f"{file}: '{printable(text[:60])}...' has more than the {self.spec.length} tokens that the model"
                    " takes: shorten it"
                )


BundleTokenizers: TypeAlias = dict[str, FixedLengthTokenizer]  # by the names of vlj_edge.bundle.TOKENIZER_NAMES


def bundle_tokenizers(weights: Weights) -> BundleTokenizers:
    """Return a tokenizer for each engine of VL-JEPA that reads or writes text."""
    preset, text = weights.preset, weights.text
    query = TokenizerSpec(QUERY_TOKENIZER, preset.query_tokens, preset.query_pad)
    output = TokenizerSpec(DECODER_TOKENIZER, preset.decoder_tokens, preset.query_pad, preset.decoder_end)
    text_input = TokenizerSpec(TEXT_TOKENIZER, preset.text.tokens, text.pad, text_prefix=text.text_prefix)
    decoder = weights.decoder_tokenizer
    found = {"query": FixedLengthTokenizer(query, weights.query_tokenizer)}
    if decoder is not None:
        found["decoder"] = FixedLengthTokenizer(output, decoder)
    return found | {"text_encoder": FixedLengthTokenizer(text_input, read_tokenizer(text.tokenizer))}


def write_tokenizers(found: BundleTokenizers, directory: Path) -> None:
    """Write the tokenizers into the bundle's directory, without padding or truncation of their own."""
    for each in found.values():
        each.tokenizer.no_truncation()
        (directory / each.spec.file).write_text(each.tokenizer.to_str(), encoding="utf-8")
