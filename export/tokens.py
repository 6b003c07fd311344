"""The bundle's three tokenizers: copied from the weights, and used by the parity run as the runtime will use them."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tokenizers

from vlj_edge.bundle import TokenizerSpec
from vlj_edge.errors import VljEdgeError
from vlj_edge.presets import Preset

from .weights import DECODER_TOKENIZER, QUERY_TOKENIZER, LoadedWeights

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
    decoder: FixedLength
    text_encoder: FixedLength

    def specs(self) -> dict[str, TokenizerSpec]:
        """By the names of the manifest."""
        return {name: part.spec for name, part in vars(self).items()}


def write_tokenizers(weights: LoadedWeights, preset: Preset, directory: Path) -> BundleTokenizers:
    """Copy the tokenizers into the bundle, with no padding or truncation of their own but the engine's length."""
    backbone = weights.text_backbone
    sources = {
        QUERY_TOKENIZER: weights.directory / QUERY_TOKENIZER,
        DECODER_TOKENIZER: weights.directory / DECODER_TOKENIZER,
        TEXT_TOKENIZER: backbone.tokenizer,
    }
    for name, source in sources.items():
        shutil.copyfile(source, directory / name)
    text_length = preset.text.tokens
    specs = {
        "query": TokenizerSpec(QUERY_TOKENIZER, preset.query_tokens, preset.query_pad),
        "decoder": TokenizerSpec(DECODER_TOKENIZER, preset.decoder_tokens, preset.query_pad, preset.decoder_end),
        "text_encoder": TokenizerSpec(TEXT_TOKENIZER, text_length, backbone.pad, text_prefix=backbone.text_prefix),
    }
    return BundleTokenizers(**{name: _open(directory, spec) for name, spec in specs.items()})


def _open(directory: Path, spec: TokenizerSpec) -> FixedLength:
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(directory / spec.file))
    except Exception as error:  # tokenizers raises Exception itself
        raise VljEdgeError(f"{spec.file} of the weights is no tokenizer ({error}): copy or train it again") from error
    tokenizer.no_padding()
    tokenizer.enable_truncation(spec.length)
    return FixedLength(spec, tokenizer)
