"""Loading modules, tokenizers and single numbers of a transformers directory."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import tokenizers
import torch
from torch import nn

from vlj_edge.errors import VljEdgeError, require

from ..weights.locations import INDEX_FILE, model_file

_LARGEST_SCALE = 20  # of cosines, as a logarithm; CLIP trains it up to log(100)
_TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "spiece.model", "tokenizer.model", "vocab.txt")


def transformers_class(name: str, since: str) -> Any:
    """Return a class of transformers.

    Args:
        since: the first version that has it.

    Raises:
        VljEdgeError: the installed version is older.
    """
    transformers = require("transformers", "export")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    found = getattr(transformers, name, None)
    if found is None:
        raise VljEdgeError(
            f"transformers {transformers.__version__} has no {name}: pip install 'transformers>={since}'"
        )
    return found


def load_module(directory: Path, kind: Any, attention: str = "sdpa") -> nn.Module:
    """Load a module of transformers in fp32 from the tensors that are its own.

    Args:
        attention: one of transformers' implementations of attention.

    Raises:
        VljEdgeError: one of its tensors is missing or of another shape, or a file cannot be read.
    """
    try:
        model, report = kind.from_pretrained(
            directory,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
            attn_implementation=attention,
            dtype=torch.float32,
        )
    except Exception as error:  # safetensors, huggingface_hub and transformers each raise their own
        summary = " ".join(str(error).split())[:200]
        raise VljEdgeError(f"{directory} does not load as {kind.__name__} ({summary}): download it again") from error
    missing = sorted(report["missing_keys"])
    if missing:  # transformers fills what is missing with random numbers
        raise VljEdgeError(
            f"{directory} lacks {missing[0]} and {len(missing) - 1} more tensors of {kind.__name__}: download it again"
        )
    module: nn.Module = model.eval().requires_grad_(False)
    return module


def read_number(directory: Path, name: str) -> float:
    """Return a tensor of one number.

    Raises:
        VljEdgeError: there is none of this name, or it holds several, or infinity.
    """
    safe_open = require("safetensors", "export").safe_open
    file = model_file(directory)
    if (directory / INDEX_FILE).is_file():
        file = json.loads((directory / INDEX_FILE).read_text(encoding="utf-8"))["weight_map"].get(name, "")
    if file:
        with safe_open(directory / file, "pt") as tensors:
            if name in tensors.keys() and tensors.get_tensor(name).numel() == 1:  # noqa: SIM118 - not a mapping
                number = float(tensors.get_tensor(name).item())
                if math.isfinite(number):
                    return number
    raise VljEdgeError(f"{directory} has no number {name}, on which its scores depend: download it again")


def read_temperature(directory: Path) -> float:
    """Return what a model of CLIP's kind divides cosines by: it is trained as exp(logit_scale), times which they are.

    Raises:
        VljEdgeError: the tensor is missing, or is no number that CLIP's training could reach.
    """
    scale = read_number(directory, "logit_scale")
    if not abs(scale) < _LARGEST_SCALE:
        raise VljEdgeError(f"{directory} has a logit_scale of {scale:g}, on which its scores depend: download it again")
    return math.exp(-scale)


def weight_files(directory: Path) -> tuple[Path, ...]:
    """Return the files that hold the weights."""
    if (directory / INDEX_FILE).is_file():
        names = set(json.loads((directory / INDEX_FILE).read_text(encoding="utf-8"))["weight_map"].values())
        return tuple(directory / name for name in sorted(names))
    return (directory / model_file(directory),)


def load_tokenizer(directory: Path) -> tuple[tokenizers.Tokenizer, int]:
    """Return the model's own tokenizer, without padding and truncation, and the id with which it pads.

    Raises:
        VljEdgeError: there is none, or transformers has none that is also one of the tokenizers library.
    """
    transformers = require("transformers", "export")
    if not any((directory / name).is_file() for name in _TOKENIZER_FILES):  # transformers would make an empty one
        raise VljEdgeError(f"{directory} has no tokenizer ({', '.join(_TOKENIZER_FILES)}): download its tokenizer.json")
    try:
        found = transformers.AutoTokenizer.from_pretrained(directory, local_files_only=True)
        tokenizer = tokenizers.Tokenizer.from_str(found.backend_tokenizer.to_str())
        pad = int(found.pad_token_id)
    except Exception as error:  # of many kinds
        summary = " ".join(str(error).split())[:200]
        raise VljEdgeError(
            f"{directory} has no tokenizer that can be read ({summary}): download its tokenizer.json"
        ) from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer, pad
