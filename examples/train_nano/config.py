"""The settings of a training run, as a file: nano.json holds those of the shipped weights."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path

import click

NANO = Path(__file__).with_name("nano.json")
CONTROLLED = Path(__file__).with_name("controlled.json")  # fewer steps, for the comparison with token prediction


@dataclass(frozen=True)
class Config:
    """Settings of a training run.

    steps, batch (clips, two questions each), rate, decay and bf16 (for the network, not the loss) belong to the first
    stage and to the token baseline; pool_batches is the number of batches of predicted embeddings that the decoder is
    trained on."""

    seed: int
    steps: int
    batch: int
    rate: float
    decay: float
    bf16: bool
    decoder_steps: int
    decoder_batch: int
    decoder_rate: float
    pool_batches: int


def read_config(path: Path) -> Config:
    values = json.loads(path.read_text(encoding="utf-8"))
    names = {field.name for field in fields(Config)}
    if values.keys() != names:
        raise click.ClickException(f"{path} must set exactly {', '.join(sorted(names))}")
    return Config(**values)
