"""The bundle's tokenizers: copied from the weights, and used by the parity run as the runtime will use them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tokenizers

from vlj_edge.bundle import TokenizerSpec

from .locations import DECODER_TOKENIZER, QUERY_TOKENIZER
from .sources import Weights, read_tokenizer

TEXT_TOKENIZER = "text_encoder_tokenizer.json"


@dataclass(frozen=True)
class FixedLength:
    """Texts to ids (int64) and mask (bool), both (1, spec.length)."""

    spec: TokenizerSpec
    tokenizer: tokenizers.Tokenizer

    def encode(self, text: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Cut or padded to the engine's length."""
        ids = self.tokenizer.encode(self.spec.text_prefix + text).ids
        row = np.full((1, self.spec.length), self.spec.pad, np.int64)
        row[0, : len(ids)] = ids
        return row, np.arange(self.spec.length)[None] < len(ids)


@dataclass(frozen=True)
class BundleTokenizers:
    """As they lie in the bundle directory."""

    query: FixedLength
    decoder: FixedLength | None  # none where there is no decoder engine
    text_encoder: FixedLength

    def specs(self) -> dict[str, TokenizerSpec]:
        """By the names of the manifest."""
        return {name: part.spec for name, part in vars(self).items() if part is not None}


def write_tokenizers(weights: Weights, directory: Path) -> BundleTokenizers:
    """Put the tokenizers into the bundle, with no padding or truncation of their own but the engine's length."""
    preset, text = weights.preset, weights.text
    query = TokenizerSpec(QUERY_TOKENIZER, preset.query_tokens, preset.query_pad)
    said = TokenizerSpec(DECODER_TOKENIZER, preset.decoder_tokens, preset.query_pad, preset.decoder_end)
    read = TokenizerSpec(TEXT_TOKENIZER, preset.text.tokens, text.pad, text_prefix=text.text_prefix)
    decoder = weights.decoder_tokenizer
    return BundleTokenizers(
        query=_write(weights.query_tokenizer, directory, query),
        decoder=_write(decoder, directory, said) if decoder is not None else None,
        text_encoder=_write(read_tokenizer(text.tokenizer), directory, read),
    )


def _write(tokenizer: tokenizers.Tokenizer, directory: Path, spec: TokenizerSpec) -> FixedLength:
    (directory / spec.file).write_text(tokenizer.to_str(), encoding="utf-8")
    tokenizer.enable_truncation(spec.length)
    return FixedLength(spec, tokenizer)
