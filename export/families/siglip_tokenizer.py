"""SigLIP's tokenizers, with the way in which its texts were written in training.

Read from tokenizer.json: of transformers' classes, SigLIP's needs sentencepiece and does this in Python, and Gemma's,
which SigLIP 2's files name, does not do it (transformers' Siglip2Tokenizer does).
"""

from __future__ import annotations

import json
import re
import string
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, normalizers

from vlj_edge.errors import VljEdgeError

from ..weights.files import read_tokenizer
from ..weights.locations import TOKENIZER_FILE

_SETTINGS = "tokenizer_config.json"


def load_canonical_tokenizer(directory: Path) -> tuple[Tokenizer, int]:
    """Return the tokenizer, which writes texts in small letters, and the id with which it pads, at the end.

    SigLIP's own (a unigram model) also drops punctuation and repeated spaces; SigLIP 2's (Gemma's BPE) keeps them.

    Raises:
        VljEdgeError: a file is missing or broken, or pads in front.
    """
    if not (directory / TOKENIZER_FILE).is_file():
        raise VljEdgeError(f"{directory} has no {TOKENIZER_FILE}: download the tokenizer of the model")
    tokenizer = read_tokenizer(directory / TOKENIZER_FILE)
    steps: list[Any] = [normalizers.Lowercase()]
    if json.loads(tokenizer.to_str())["model"].get("type") == "Unigram":
        punctuation = Regex(f"[{re.escape(string.punctuation)}]")
        steps += [normalizers.Replace(punctuation, ""), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    if tokenizer.normalizer is not None:
        steps.append(tokenizer.normalizer)
    tokenizer.normalizer = normalizers.Sequence(steps)
    return tokenizer, _pad(directory, tokenizer)


def _pad(directory: Path, tokenizer: Tokenizer) -> int:
    path = directory / _SETTINGS
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
        pad, side = settings["pad_token"], settings.get("padding_side", "right")
    except (OSError, ValueError, RecursionError, KeyError, AttributeError, TypeError) as error:
        raise VljEdgeError(f"{path} names no pad_token ({error!r}): download the tokenizer of the model") from error
    found = tokenizer.token_to_id(str(pad["content"] if isinstance(pad, dict) else pad))
    if found is None or side != "right":
        raise VljEdgeError(f"{path} pads with {str(pad)[:60]} on the {side}, not with a token on the right: check it")
    return found
