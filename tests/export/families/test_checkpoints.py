"""Directories that cannot be exported get one line that says why."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from tests.cli.command import run_here
from tests.export.families.checkpoints import SIDE, write_clip


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    write_clip(tmp_path / "clip")
    return tmp_path / "clip"


def edit(path: Path, change: Callable[[Any], object]) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def other_architecture(directory: Path) -> str:
    edit(directory / "config.json", lambda raw: raw.update(architectures=["WhisperModel"]))
    return "WhisperModel"


def embeddinggemma2(directory: Path) -> str:
    edit(directory / "config.json", lambda raw: raw.update(architectures=["EmbeddingGemma2Model"]))
    return "google/siglip2-base-patch16-224"


def no_architecture(directory: Path) -> str:
    edit(directory / "config.json", lambda raw: raw.pop("architectures"))
    return "config.json"


def damaged_config(directory: Path) -> str:
    (directory / "config.json").write_text("{", encoding="utf-8")
    return "config.json"


def truncated(directory: Path) -> str:
    content = (directory / "model.safetensors").read_bytes()
    (directory / "model.safetensors").write_bytes(content[: len(content) // 2])
    return "model.safetensors"


def truncated_shard(directory: Path) -> str:
    (directory / "model.safetensors").rename(directory / "model-00001-of-00002.safetensors")
    truncated_content = (directory / "model-00001-of-00002.safetensors").read_bytes()[:-9]
    (directory / "model-00002-of-00002.safetensors").write_bytes(truncated_content)
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    return "model-00002-of-00002.safetensors"


def missing_shard(directory: Path) -> str:
    index = {"weight_map": {"logit_scale": "model-00007-of-00009.safetensors"}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    return "model-00007-of-00009.safetensors"


def pickled(directory: Path) -> str:
    (directory / "model.safetensors").rename(directory / "pytorch_model.bin")
    return "pytorch_model.bin"


def oblong(directory: Path) -> str:
    edit(directory / "config.json", lambda raw: raw["vision_config"].update(image_size=[32, 64]))
    return "image_size"


def other_size(directory: Path) -> str:
    edit(directory / "preprocessor_config.json", lambda raw: raw.update(crop_size=24))
    return "24"


def other_filter(directory: Path) -> str:
    edit(directory / "preprocessor_config.json", lambda raw: raw.update(resample=1))
    return "preprocessor_config.json"


def processor_with(**changes: Any) -> Callable[[Path], str]:
    def damage(directory: Path) -> str:
        edit(directory / "preprocessor_config.json", lambda raw: raw.update(changes))
        return "preprocessor_config.json"

    return damage


def scale_of(number: float) -> Callable[[Path], str]:
    def damage(directory: Path) -> str:
        tensors = safetensors.torch.load_file(directory / "model.safetensors")
        tensors["logit_scale"] = torch.tensor(number)
        safetensors.torch.save_file(tensors, directory / "model.safetensors", {"format": "pt"})
        return "logit_scale"

    return damage


def no_processor(directory: Path) -> str:
    (directory / "preprocessor_config.json").unlink()
    return "preprocessor_config.json"


def no_tokenizer(directory: Path) -> str:
    for path in directory.glob("tokenizer*"):
        path.unlink()
    return "tokenizer"


def too_few_layers(directory: Path) -> str:
    edit(directory / "config.json", lambda raw: raw["vision_config"].update(num_hidden_layers=3))
    return "layers.2"


def another_width(directory: Path) -> str:
    edit(directory / "config.json", lambda raw: raw["vision_config"].update(intermediate_size=80))
    return str(directory)


@pytest.mark.parametrize(
    "damage",
    [
        other_architecture,
        embeddinggemma2,
        no_architecture,
        damaged_config,
        truncated,
        truncated_shard,
        missing_shard,
        pickled,
        oblong,
        other_size,
        other_filter,
        processor_with(rescale_factor=None),
        processor_with(rescale_factor=0),
        processor_with(image_mean=[0.5, "half", 0.5]),
        processor_with(image_mean=None),
        processor_with(image_std=[0.5, 0, 0.5]),
        processor_with(image_std=[0.5, True, float("nan")]),
        processor_with(resample=[3]),
        processor_with(size={"shortest_edge": -1}, crop_size=-1),
        processor_with(size=[SIDE, SIDE]),
        scale_of(float("nan")),
        scale_of(-1000),
        no_processor,
        no_tokenizer,
        too_few_layers,
        another_width,
    ],
)
def test_one_line(directory: Path, damage: Callable[[Path], str]) -> None:
    named = damage(directory)
    out = directory.parent / "out"
    done = run_here("export", directory, "--out", out)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 and named in done.stderr, done.stderr
    assert not out.exists() and not done.stdout


@pytest.mark.parametrize("option", [["--preset", "vl-jepa-1.6b"], ["--size", "64"], ["--random-weights", "0"]])
def test_options_of_vl_jepa_are_refused(directory: Path, option: list[str]) -> None:
    done = run_here("export", directory, *option)
    assert done.returncode == 2 and option[0] in done.stderr


def test_frames(directory: Path, tmp_path: Path) -> None:
    done = run_here("export", directory, "--frames", "3", "--out", tmp_path / "out", "--skip-parity")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out" / "manifest.json").read_text(encoding="utf-8"))["clip"]["frames"] == 3


def test_captions_that_the_model_would_cut_are_refused(directory: Path, tmp_path: Path) -> None:
    captions = tmp_path / "captions.txt"
    captions.write_text("a red square\n" + "a very long way " * 100 + "\n", encoding="utf-8")
    done = run_here("export", directory, "--captions", captions, "--out", tmp_path / "out")
    assert (done.returncode, done.stdout) == (1, "") and not (tmp_path / "out").exists()
    assert done.stderr.count("\n") == 1 and str(captions) in done.stderr and "tokens" in done.stderr
