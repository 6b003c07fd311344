"""Reading checkpoint files: tensors by name, config.json, tokenizer.json.

Nothing is unpickled. safetensors and .pt files are mapped into memory, so tensors are read when they are used.
"""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor

from vlj_edge.errors import VljEdgeError, require
from vlj_edge.regular_file import LONGEST_NAME, MOST_TEXT, check_regular_file

from .locations import CONFIG_FILE, INDEX_FILE, MODEL_FILE

State = dict[str, Tensor]


def read_transformers(directory: Path) -> tuple[dict[str, Any], State]:
    """Return config.json and all tensors of a transformers directory, whose safetensors may be sharded.

    Raises:
        VljEdgeError: a file is missing, broken, or outside the directory.
    """
    config = _read_json(directory / CONFIG_FILE)
    if not (directory / INDEX_FILE).is_file():
        return config, read_safetensors(directory / MODEL_FILE)
    shards = _read_json(directory / INDEX_FILE).get("weight_map", {})
    state: State = {}
    if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
        raise VljEdgeError(f"{directory / INDEX_FILE} has no weight_map of file names: download it again")
    for name in sorted(set(shards.values())):
        if Path(name).name != name or "\0" in name or len(name) > LONGEST_NAME:
            raise VljEdgeError(
                f"{directory / INDEX_FILE} names a file outside its directory ({name[:200]!r}): download it again"
            )
        state |= read_safetensors(directory / name)
    missing = sorted(shards.keys() - state.keys())
    if missing:
        raise VljEdgeError(f"{directory} lacks {missing[0]}, which its index names: download it again")
    return config, state


def read_safetensors(path: Path) -> State:
    """Return all tensors of one file.

    Raises:
        VljEdgeError: there is no such file, or it is not whole.
    """
    safetensors = require("safetensors.torch", "export")
    if not path.is_file():
        raise VljEdgeError(f"{path} does not exist: name a directory with config.json and safetensors")
    try:
        state: State = safetensors.load_file(path)
    except Exception as error:  # safetensors raises its own type for every defect of a file
        raise VljEdgeError(f"{path} is not a whole safetensors file ({error}): copy or download it again") from error
    return state


def read_pt(path: Path) -> dict[str, Any]:
    """Return the dict that torch.save wrote, provided it holds only tensors and plain values.

    Raises:
        VljEdgeError: there is no such file, it is cut short, or it asks for code to run.
    """
    if not path.is_file():
        raise VljEdgeError(f"{path} does not exist: name the checkpoint's .pt file")
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise VljEdgeError(
            f"{path} holds more than tensors and is not loaded, since unpickling can run any code:"
            " if you trust it, save its state dict as safetensors"
        ) from error
    except Exception as error:  # torch and zipfile let many through
        summary = (str(error).splitlines() or [type(error).__name__])[0]
        raise VljEdgeError(f"{path} is not a whole .pt file ({summary}): download it again") from error
    if not isinstance(loaded, dict):
        raise VljEdgeError(f"{path} holds a {type(loaded).__name__} and no state dict: name a checkpoint")
    return loaded


def read_tokenizer(path: Path) -> Tokenizer:
    """Return a tokenizer.json, without padding and truncation of its own.

    Raises:
        VljEdgeError: there is no such file, or it is no tokenizer.
    """
    check_regular_file(path, "name a tokenizer.json", MOST_TEXT)
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises Exception itself
        raise VljEdgeError(f"{path} is not a tokenizer ({error}): copy, download or train it again") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _read_json(path: Path) -> dict[str, Any]:
    check_regular_file(path, "name a transformers directory", MOST_TEXT)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise VljEdgeError(f"{path} does not exist: name a transformers directory") from error
    except (OSError, ValueError, RecursionError) as error:
        raise VljEdgeError(f"{path} is not JSON ({error}): download it again") from error
    if not isinstance(content, dict):
        raise VljEdgeError(f"{path} is not a JSON object: download it again")
    return content
