"""A few seconds of training end to end on random features: it resumes, and its weights can be exported."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import loop
import numpy as np
import pytest
import torch
from checkpoint import CHECKPOINT
from clips import ACT, APPROACH
from config import NANO, read_config
from safetensors.torch import load_file
from tasks import TASKS, trained_tasks

from tests.examples.train_nano.conftest import TRAIN_NANO
from vlj_edge.export.weights.sources import load_model
from vlj_edge.presets import preset

FRAMES, HOLDS = 18, 2


def phases(task: str) -> list[int]:
    """Approach, then act; some tasks have no approach."""
    return [APPROACH if TASKS[task].approach else ACT] * 8 + [ACT] * (FRAMES - 8)


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One episode of every task, as features.py stores them."""
    out = tmp_path_factory.mktemp("features")
    shard = out / "train" / "copy0" / "00000.npy"
    shard.parent.mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = FRAMES + 3 * HOLDS
    np.save(shard, rng.normal(size=(rows * len(TASKS), 112, 6, 6)).astype(np.float16))
    entries = [
        {
            "id": [task, i],
            "first": i * rows + HOLDS,
            "pause": 3,
            "frames": FRAMES,
            "camera": {"zone": "training", "azimuth": 120.0, "elevation": -30.0},
            "phase": phases(task),
            "success": [0] * (FRAMES - 4) + [1] * 4,
            "hand": rng.normal(0, 0.1, (FRAMES, 3)).tolist(),
        }
        for i, task in enumerate(trained_tasks())
    ]
    shard.with_suffix(".json").write_text(json.dumps(entries))
    return out


def train(features: Path, out: Path, steps: int) -> None:
    config = {**json.loads((TRAIN_NANO / "nano.json").read_text()), "batch": 8}
    config |= {"decoder_steps": 20, "decoder_batch": 16, "pool_batches": 2}
    (out / "config.json").write_text(json.dumps(config))
    command = [sys.executable, "train.py", "--features", features, "--out", out, "--steps", steps]
    command += ["--config", out / "config.json", "--threads", 1]
    done = subprocess.run(list(map(str, command)), cwd=TRAIN_NANO, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_training_writes_weights_that_export_reads(features: Path, tmp_path: Path) -> None:
    train(features, tmp_path, 3)
    before = load_file(tmp_path / CHECKPOINT)
    assert before["step"] == 3
    train(features, tmp_path, 5)
    assert load_file(tmp_path / CHECKPOINT)["step"] == 5
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [3, 5], "the second run went on from the first"
    state = load_model(tmp_path, preset("nano")).state_dict()
    assert (state["decoder.norm.weight"] != 1).any()
    assert torch.equal(state["vision_encoder.norm.weight"], state["vision_encoder.norm.weight"].half().float())


class Interrupted(Exception):
    pass


def fit_a_line(out: Path, interrupt_at: int | None = None) -> torch.Tensor:
    """Six steps of a small model, whose weight is returned."""
    torch.manual_seed(0)
    model, config = torch.nn.Linear(4, 4), replace(read_config(NANO), steps=6)

    def step_loss(progress: float, rng: np.random.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        if interrupt_at is not None and progress * config.steps >= interrupt_at:
            raise Interrupted
        x = torch.randn(8, 4) + torch.from_numpy(rng.normal(size=(8, 4))).float()
        return ((model(x) - 1) ** 2).mean(), {"progress": progress}

    loop.fit(model, config, out, step_loss)
    return model.weight.detach()


def test_an_interrupted_run_ends_where_an_uninterrupted_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "SAVE", 0.0)  # a checkpoint after every step
    straight, interrupted = tmp_path / "straight", tmp_path / "interrupted"
    straight.mkdir()
    interrupted.mkdir()
    with pytest.raises(Interrupted):
        fit_a_line(interrupted, interrupt_at=3)
    assert torch.equal(fit_a_line(interrupted), fit_a_line(straight))
