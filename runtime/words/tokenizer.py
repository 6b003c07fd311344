"""Encode texts as the fixed-length token ids that an engine takes, and decode token ids."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from vlj_edge.bundle import Manifest, verify_file
from vlj_edge.errors import VljEdgeError, WrongText


class FixedLengthTokenizer:
    """One tokenizer of a bundle ("query", "decoder" or "text_encoder").

    Raises:
        VljEdgeError: the file does not match the manifest, or is not a tokenizer.
    """

    def __init__(self, directory: Path, manifest: Manifest, name: str) -> None:
        self._spec = manifest.tokenizers[name]
        path = verify_file(directory, self._spec.file, manifest)
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises Exception itself
            raise VljEdgeError(f"{path} is not a tokenizer ({error}): export the bundle again") from error
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(self._spec.length)  # so that encode() can detect it

    def encode(self, text: str, truncate: bool = False) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Return token ids, int64 [1, length], padded at the end, and the mask, bool [1, length], true for tokens.

        Args:
            truncate: drop the tokens that do not fit, in place of an error.

        Raises:
            VljEdgeError: the text is only white space, or has too many tokens.
        """
        if not text.strip():
            raise WrongText("the text is empty: give at least one word", text)
        encoding = self._tokenizer.encode(self._spec.text_prefix + text)
        if encoding.overflowing and not truncate:
            raise WrongText(
                f"'{' '.join(text.split())[:60]}...' has more than the {self._spec.length} tokens the bundle takes:"
                " shorten it",
                text,
            )
        ids = encoding.ids
        padded = np.full((1, self._spec.length), self._spec.pad, np.int64)
        padded[0, : len(ids)] = ids
        mask = np.zeros((1, self._spec.length), np.bool_)
        mask[0, : len(ids)] = True
        return padded, mask

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of token ids, without special tokens."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=True)
        return text.strip()
