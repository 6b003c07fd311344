"""Training end to end, for seconds, on features made of noise: what it writes can be exported, and it resumes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from checkpoint import CHECKPOINT
from clips import ACT, APPROACH
from safetensors.torch import load_file
from tasks import TASKS

from vlj_edge.export.weights import load_weights
from vlj_edge.presets import preset

from .conftest import TRAIN_NANO

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
    rows = FRAMES + 2 * HOLDS
    np.save(shard, rng.normal(size=(rows * len(TASKS), 112, 6, 6)).astype(np.float16))
    entries = [
        {
            "id": [task, 0],
            "first": i * rows + HOLDS,
            "frames": FRAMES,
            "task": task,
            "held_out": False,
            "phase": phases(task),
        }
        for i, task in enumerate(TASKS)
    ]
    shard.with_suffix(".json").write_text(json.dumps(entries))
    return out


def train(features: Path, out: Path, minutes: float) -> None:
    command = [sys.executable, "train.py", "--features", features, "--out", out, "--minutes", minutes]
    command += ["--decoder-minutes", 0.1, "--batch", 8, "--threads", 1]
    done = subprocess.run(list(map(str, command)), cwd=TRAIN_NANO, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_training_writes_weights_and_resumes(features: Path, tmp_path: Path) -> None:
    train(features, tmp_path, 0.15)
    first, before = load_weights(tmp_path, preset("nano")).model.state_dict(), load_file(tmp_path / CHECKPOINT)
    assert before["step"] > 0
    train(features, tmp_path, 0.3)
    after = load_file(tmp_path / CHECKPOINT)
    assert after["step"] > before["step"]
    assert after["seconds"] >= before["seconds"] + 5, "the time before the interruption counts"
    second = load_weights(tmp_path, preset("nano")).model.state_dict()
    stem = "vision_encoder.stem.blocks.0.depthwise.weight"
    assert (first[stem] == second[stem]).all(), "the stem is frozen"
    assert (first["vision_encoder.norm.weight"] != second["vision_encoder.norm.weight"]).any()
    assert (first["decoder.norm.weight"] != 1).any()
