"""Training state on disk, as safetensors, without pickle."""

from __future__ import annotations

import json
import os
from pathlib import Path

import tokenizers
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from vlj_edge.export.calibrated import QUERIES_FILE
from vlj_edge.export.models import VLJepa
from vlj_edge.export.weights.locations import DECODER_TOKENIZER, MODEL_FILE, QUERY_TOKENIZER

CHECKPOINT = "checkpoint.safetensors"


def save_checkpoint(out: Path, model: nn.Module, optimizer: torch.optim.Optimizer, step: int, seconds: float) -> None:
    """Save model, optimizer moments, step and time spent; atomically, by renaming."""
    state: dict[str, Tensor] = {f"model.{key}": value for key, value in model.state_dict().items()}
    for number, moments in optimizer.state_dict()["state"].items():
        state |= {f"optimizer.{number}.{key}": value for key, value in moments.items()}
    state |= {"step": torch.tensor(step), "seconds": torch.tensor(float(seconds))}
    _write(state, out / CHECKPOINT)


def load_checkpoint(out: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[int, float]:
    """Restore both in place; return (step, seconds spent), (0, 0) if there is no checkpoint."""
    if not (out / CHECKPOINT).exists():
        return 0, 0.0
    state = load_file(out / CHECKPOINT)
    model.load_state_dict({key.removeprefix("model."): v for key, v in state.items() if key.startswith("model.")})
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in state.items():
        if key.startswith("optimizer."):
            _, number, name = key.split(".")
            moments.setdefault(int(number), {})[name] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": moments, "param_groups": groups})
    return int(state["step"]), float(state["seconds"])


def save_weights(out: Path, model: VLJepa, tokenizer: tokenizers.Tokenizer, queries: list[str]) -> None:
    """Write the directory that `vlj-edge export` reads. Queries and captions share one tokenizer.

    Weights are rounded to fp16 here: half the size in the package, and every export starts from the same values.
    """
    _write({key: value.half() for key, value in model.state_dict().items()}, out / MODEL_FILE)
    for name in (QUERY_TOKENIZER, DECODER_TOKENIZER):
        tokenizer.save(str(out / name))
    (out / QUERIES_FILE).write_text(json.dumps(queries, indent=1) + "\n", encoding="utf-8")


def save_model(out: Path, model: nn.Module) -> None:
    _write(dict(model.state_dict()), out / MODEL_FILE)


def load_model(out: Path, model: nn.Module) -> bool:
    """Load what save_model wrote into the model; return whether it exists."""
    if not (out / MODEL_FILE).exists():
        return False
    model.load_state_dict(load_file(out / MODEL_FILE))
    return True


def _write(state: dict[str, Tensor], path: Path) -> None:
    partial = path.with_suffix(".part")
    save_file({key: value.detach().contiguous().clone() for key, value in state.items()}, partial)
    os.replace(partial, path)
