"""SigLIP 2 NaFlex at one square grid: both towers, pictures, tokens and scores against transformers' Siglip2Model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import transformers
from PIL import Image

from tests.cli.command import run_here
from tests.export.families import comparing
from tests.export.families.checkpoints import SIDE, TEXTS, write_naflex
from vlj_edge.bundle import read_manifest

_GRID = 4  # the largest square of 18 patches; the position embeddings are 6 x 6


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    directory = tmp_path_factory.mktemp("checkpoints") / "naflex"
    return directory, write_naflex(directory)


@pytest.fixture(scope="module")
def bundle(checkpoint: tuple[Path, Any]) -> Path:
    return comparing.export(checkpoint[0])


def as_patches(pixels: np.ndarray) -> dict[str, torch.Tensor]:
    """What transformers' processor makes of (frames, 3, side, side) that have their size already."""
    side = SIDE // _GRID
    patches = torch.from_numpy(pixels).unflatten(-1, (_GRID, side)).unflatten(-3, (_GRID, side))
    return {
        "pixel_values": patches.permute(0, 2, 4, 3, 5, 1).reshape(len(pixels), _GRID**2, -1),
        "pixel_attention_mask": torch.ones(len(pixels), _GRID**2, dtype=torch.int32),
        "spatial_shapes": torch.tensor([[_GRID, _GRID]] * len(pixels)),
    }


def test_a_clip_is_the_mean_of_its_pictures(checkpoint: tuple[Path, Any], bundle: Path) -> None:
    pixels = comparing.processed(bundle, comparing.pictures([(50, 60)] * 4))
    with torch.no_grad():
        own = checkpoint[1].get_image_features(**as_patches(pixels[0])).pooler_output
    comparing.assert_mean_of_pictures(bundle, pixels, own)


def test_pictures_are_those_of_its_own_processor(checkpoint: tuple[Path, Any], bundle: Path) -> None:
    """Given a square, of any size; other frames are squashed to it by the same filter."""
    processor = transformers.Siglip2ImageProcessorPil.from_pretrained(checkpoint[0], max_num_patches=_GRID**2)
    for picture in comparing.pictures([(64, 64), (97, 97), (20, 20), (300, 300)]):
        own = processor(picture, return_tensors="pt")
        assert own["spatial_shapes"].tolist() == [[_GRID, _GRID]]
        found = as_patches(comparing.processed(bundle, [picture])[0])
        assert (found["pixel_values"] - own["pixel_values"]).abs().max() * 0.5 < 1.001 / 255, picture.shape
    for picture in comparing.pictures():
        squashed = Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        expected = (np.asarray(squashed, np.float32) / 255 - 0.5) / 0.5
        squashed_here = comparing.processed(bundle, [picture])[0]
        assert np.abs(squashed_here - expected.transpose(2, 0, 1)).max() * 0.5 < 1.001 / 255, picture.shape


@pytest.mark.parametrize("text", [TEXTS[0], "A  Person OPENS the door!"])
def test_texts_have_its_tokens_and_embeddings(checkpoint: tuple[Path, Any], bundle: Path, text: str) -> None:
    own = transformers.Siglip2Tokenizer.from_pretrained(checkpoint[0])(text, padding="max_length", max_length=64)
    assert comparing.tokens(bundle, text)[0][0].tolist() == own["input_ids"]
    comparing.assert_text_embedding(
        bundle, text, lambda ids: checkpoint[1].get_text_features(input_ids=ids).pooler_output
    )


def test_scores_are_its_sigmoids(checkpoint: tuple[Path, Any], bundle: Path) -> None:
    pixels = comparing.processed(bundle, comparing.pictures([(40, 40)]) * 4)
    ids = torch.from_numpy(np.concatenate([comparing.tokens(bundle, text)[0] for text in TEXTS]))
    with torch.no_grad():
        logits = checkpoint[1](**as_patches(pixels[0, :1]), input_ids=ids).logits_per_image
    scores, _ = comparing.scores_of(bundle, pixels, TEXTS)
    assert np.abs(scores - logits.sigmoid()[0].numpy()).max() < 1e-4


@pytest.mark.parametrize("name", ["vision_encoder", "text_encoder"])
def test_attention_is_one_node_a_layer(bundle: Path, name: str) -> None:
    graph = onnx.load(bundle / f"{name}.onnx").graph
    assert sum(node.op_type == "Attention" for node in graph.node) >= 2
    softmaxes = sum(node.op_type == "Softmax" for node in graph.node)
    assert softmaxes == (1 if name == "vision_encoder" else 0), "only the pooling head, with one query, is spelled out"


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["--fp16"], ["--flavour", "portable"]])
def test_commands(
    checkpoint: tuple[Path, Any], tmp_path: Path, make_video: Callable[..., Path], arguments: list[str]
) -> None:
    video, out = make_video([((0, 0, 255), 3), ((255, 0, 0), 3)]), tmp_path / "out"
    done = run_here("export", checkpoint[0], *arguments, "--out", out)
    assert done.returncode == 0, done.stderr
    assert read_manifest(out).family == "siglip2-naflex"
    done = run_here("classify", video, "--labels", ",".join(TEXTS), "--bundle", out)
    assert done.returncode == 0 and done.stdout, done.stderr


def test_a_wrong_number_of_patches_is_one_line(tmp_path: Path) -> None:
    write_naflex(tmp_path / "naflex")
    path = tmp_path / "naflex" / "preprocessor_config.json"
    raw = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(raw | {"max_num_patches": 0}), encoding="utf-8")
    done = run_here("export", tmp_path / "naflex", "--out", tmp_path / "out")
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "max_num_patches" in done.stderr
