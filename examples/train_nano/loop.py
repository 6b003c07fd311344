"""The training loop that VL-JEPA and its token-predicting baseline share: same steps, same schedule, same clips."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from checkpoint import load_checkpoint, save_checkpoint
from config import Config
from rich.console import Console
from torch import Tensor, nn

WARM_UP = 0.03  # share of the steps
FULL_TOKENS = 0.75  # from here on no token is dropped: the network it becomes on the device
PROJECTION_RATE = 0.1  # of the learning rate: the text side moves slowly, or it collapses onto the training captions
SHOW, SAVE = 15.0, 180.0  # s between lines of the log, and between checkpoints

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
console = Console(stderr=True)

# Progress (0..1) and the step's random numbers -> the loss and the figures to report beside it.
Step = Callable[[float, np.random.Generator], tuple[Tensor, dict[str, float]]]


def fit(model: nn.Module, config: Config, out: Path, step_loss: Step) -> None:
    """All steps, from the last checkpoint on. A step's randomness hangs on its number alone: it resumes as it went."""
    optimizer = make_optimizer(model, config)
    first, spent = load_checkpoint(out, model, optimizer)
    started = time.monotonic() - spent
    shown = saved = time.monotonic()
    figures: list[dict[str, float]] = []
    with (out / "log.jsonl").open("a") as log:
        for step in range(first, config.steps):
            torch.manual_seed(config.seed * config.steps + step)
            progress = step / config.steps
            for group in optimizer.param_groups:
                group["lr"] = config.rate * learning_rate(progress) * group["share"]
            loss, figure = step_loss(progress, np.random.default_rng((config.seed, step)))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            figures.append({"loss": loss.item()} | figure)
            now = time.monotonic()
            if now - shown > SHOW or step + 1 == config.steps:
                report(log, step + 1, now - started, figures, config.batch * len(figures) / (now - shown))
                shown, figures = now, []
            if now - saved > SAVE:
                save_checkpoint(out, model, optimizer, step + 1, now - started)
                saved = now
    save_checkpoint(out, model, optimizer, config.steps, time.monotonic() - started)


def learning_rate(progress: float) -> float:
    """Linear warm-up, then a cosine down to 1 %."""
    if progress < WARM_UP:
        return max(progress / WARM_UP, 0.02)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min((progress - WARM_UP) / (1 - WARM_UP), 1.0)))


def make_optimizer(model: nn.Module, config: Config) -> torch.optim.AdamW:
    """AdamW without the decoder; no decay on norms, biases and embeddings. The stem has no part in it: it is frozen."""
    groups: dict[str, list[Tensor]] = {"decay": [], "plain": [], "projection": []}
    for name, parameter in model.named_parameters():
        if "decoder." in name or "vision_encoder.stem." in name:
            parameter.requires_grad_(False)
        elif "text_projection" in name:
            groups["projection"].append(parameter)
        else:
            groups["decay" if parameter.ndim > 1 and "embed" not in name else "plain"].append(parameter)
    settings = [
        {"params": groups["decay"], "weight_decay": config.decay, "share": 1.0},
        {"params": groups["plain"], "weight_decay": 0.0, "share": 1.0},
        {"params": groups["projection"], "weight_decay": 0.0, "share": PROJECTION_RATE},
    ]
    # fused: one pass a step, since the tensors are small and many
    return torch.optim.AdamW([s for s in settings if s["params"]], lr=config.rate, betas=(0.9, 0.98), fused=True)


def mixed_precision(config: Config) -> torch.autocast:
    """What stands in it computes its matrices in bfloat16 where the config says so: 1.4 x as fast on a CPU that can."""
    return torch.autocast(DEVICE.type, torch.bfloat16, enabled=config.bf16)


def keep_some(tokens: int, clips: int, progress: float) -> Tensor | None:
    """A random half of each clip's token positions, int64 (clips, tokens // 2), until FULL_TOKENS; then None: all."""
    if progress >= FULL_TOKENS:
        return None
    return torch.rand(clips, tokens).topk(tokens // 2, dim=1).indices.sort(dim=1).values.to(DEVICE)


def report(log, step: int, spent: float, figures: list[dict[str, float]], speed: float) -> None:
    """One JSON line for the log and one line for the reader: means since the last line."""
    record: dict[str, float] = {"step": step, "seconds": round(spent)}
    record |= {key: round(float(np.mean([f[key] for f in figures])), 4) for key in figures[0]}
    record["clips_per_second"] = round(speed, 1)
    log.write(json.dumps(record) + "\n")
    log.flush()
    console.print(" ".join(f"{key} {value}" for key, value in record.items()), highlight=False)
