"""The training loop shared by VL-JEPA and its token-predicting baseline: same steps, schedule and clips."""

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
FULL_TOKENS = 0.75  # progress after which no tokens are dropped, as on the device
PROJECTION_RATE = 0.1  # of the learning rate: a faster text projection collapses onto the training captions
SHOW, SAVE = 15.0, 180.0  # s between lines of the log, and between checkpoints

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
console = Console(stderr=True)

# Progress (0..1) and the step's random generator -> the loss and the metrics to report with it.
Step = Callable[[float, np.random.Generator], tuple[Tensor, dict[str, float]]]


def fit(model: nn.Module, config: Config, out: Path, step_loss: Step) -> None:
    """Train from the last checkpoint on. A step is seeded by its number alone, so that a resumed run is the same."""
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
    """Return the share of the full rate: linear warm-up, then a cosine down to 1 %."""
    if progress < WARM_UP:
        return max(progress / WARM_UP, 0.02)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min((progress - WARM_UP) / (1 - WARM_UP), 1.0)))


def make_optimizer(model: nn.Module, config: Config) -> torch.optim.AdamW:
    """Return AdamW without the decoder and the frozen stem; norms, biases and embeddings have no decay."""
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
    """Return a context for bfloat16 matrix products if the config asks for them: 1.4 x as fast on a CPU with bf16."""
    return torch.autocast(DEVICE.type, torch.bfloat16, enabled=config.bf16)


def keep_some(tokens: int, clips: int, progress: float) -> Tensor | None:
    """Return a random half of each clip's token positions, int64 (clips, tokens // 2); from FULL_TOKENS on None."""
    if progress >= FULL_TOKENS:
        return None
    return torch.rand(clips, tokens).topk(tokens // 2, dim=1).indices.sort(dim=1).values.to(DEVICE)


def report(log, step: int, spent: float, figures: list[dict[str, float]], speed: float) -> None:
    """Write the means since the last report to the log, as JSON, and to the console."""
    record: dict[str, float] = {"step": step, "seconds": round(spent)}
    record |= {key: round(float(np.mean([f[key] for f in figures])), 4) for key in figures[0]}
    record["clips_per_second"] = round(speed, 1)
    log.write(json.dumps(record) + "\n")
    log.flush()
    console.print(" ".join(f"{key} {value}" for key, value in record.items()), highlight=False)
