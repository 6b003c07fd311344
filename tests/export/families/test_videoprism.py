"""VideoPrism LvT: both towers and tokens against transformers' own classes; soft-capped attention is one node."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import transformers

from tests.cli.command import run_here
from tests.export.families import comparing
from tests.export.families.checkpoints import SIDE, TEXTS, write_videoprism
from vlj_edge.bundle import read_manifest

pytestmark = pytest.mark.skipif(
    not hasattr(transformers, "VideoPrismClipModel"), reason="transformers has VideoPrism from 5.13 on"
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    directory = tmp_path_factory.mktemp("checkpoints") / "videoprism"
    return directory, write_videoprism(directory)


@pytest.fixture(scope="module")
def bundle(checkpoint: tuple[Path, Any]) -> Path:
    return comparing.export(checkpoint[0])


def test_pixels_are_0_to_1_in_a_square(bundle: Path) -> None:
    preprocess = read_manifest(bundle).preprocess
    assert not preprocess.keep_aspect and preprocess.mean == (0, 0, 0) and preprocess.std == (1, 1, 1)
    pixels = comparing.processed(bundle, [np.full((30, 50, 3), 255, np.uint8)] * 4)
    assert pixels.min() == pixels.max() == pytest.approx(1)


def test_pictures_are_those_of_its_own_processor(bundle: Path) -> None:
    for picture in comparing.pictures():
        expected = comparing.video_processor(picture, (SIDE, SIDE), SIDE, "bicubic")
        found = comparing.processed(bundle, [picture])[0, 0]
        assert np.abs(found - expected).max() < 1.001 / 255, picture.shape


@pytest.mark.parametrize("seed", range(2))
def test_videos_have_its_own_embeddings(checkpoint: tuple[Path, Any], bundle: Path, seed: int) -> None:
    pixels = comparing.processed(bundle, comparing.pictures([(50, 60)] * 4, seed))
    with torch.no_grad():
        expected = checkpoint[1].get_video_features(pixel_values_videos=torch.from_numpy(pixels)).pooler_output
    found = comparing.run(bundle, "vision_encoder", pixels=pixels)
    comparing.assert_close(found, comparing.unit(expected.reshape(1, -1)))


@pytest.mark.parametrize("text", [*TEXTS, "A red Dog!"])
def test_texts_have_its_own_tokens_and_embeddings(checkpoint: tuple[Path, Any], bundle: Path, text: str) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint[0])
    own = tokenizer(text, padding="max_length", max_length=64, return_tensors="pt")
    ids, mask = comparing.tokens(bundle, text)
    assert ids.tolist() == own["input_ids"].tolist()
    with torch.no_grad():
        expected = checkpoint[1].get_text_features(own["input_ids"], own["attention_mask"]).pooler_output
    found = comparing.run(bundle, "text_encoder", text_ids=ids, text_mask=mask)
    comparing.assert_close(found, comparing.unit(expected))


@pytest.mark.parametrize(("name", "layers"), [("vision_encoder", 2 + 2 + 1 + 1), ("text_encoder", 2)])
def test_attention_is_one_node_a_layer(bundle: Path, name: str, layers: int) -> None:
    nodes = [node for node in onnx.load(bundle / f"{name}.onnx").graph.node if node.op_type == "Attention"]
    caps = [each.f for node in nodes for each in node.attribute if each.name == "softcap" and each.f]
    assert len(nodes) == layers and caps == [50.0] * (layers - (name == "vision_encoder")), "not in the pooling head"


@pytest.mark.parametrize("arguments", [["--fp16", "--flavour", "portable"]])
def test_commands(
    checkpoint: tuple[Path, Any], tmp_path: Path, make_video: Callable[..., Path], arguments: list[str]
) -> None:
    video, out = make_video([((0, 0, 255), 3), ((255, 0, 0), 3)]), tmp_path / "out"
    (tmp_path / "captions.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    done = run_here("export", checkpoint[0], *arguments, "--captions", tmp_path / "captions.txt", "--out", out)
    assert done.returncode == 0, done.stderr
    for command in (
        ["narrate", video, "--bundle", out],
        ["classify", video, "--labels", ",".join(TEXTS), "--bundle", out],
    ):
        done = run_here(*command)
        assert done.returncode == 0 and done.stdout, (command, done.stderr)


def test_another_number_of_frames_is_one_line(checkpoint: tuple[Path, Any], tmp_path: Path) -> None:
    done = run_here("export", checkpoint[0], "--frames", "8", "--out", tmp_path / "out")
    assert done.returncode == 2 and "4 frames" in done.stderr and done.stderr.count("\n") == 1
