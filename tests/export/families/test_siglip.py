"""SigLIP and SigLIP 2: both towers, pictures, tokens and scores against transformers' own classes."""

from __future__ import annotations

import re
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import transformers
from tokenizers import Tokenizer

from tests.cli.command import run_here
from tests.export.families import comparing
from tests.export.families.checkpoints import TEXTS, write_siglip
from vlj_edge.bundle import LabelSettings, read_manifest
from vlj_edge.runtime.embedding.classify import label_scores

SPELLINGS = [*TEXTS, "A  Person OPENS\tthe door!", "what's this? (a dog)", "Ärger 12"]


@pytest.fixture(scope="module", params=[1, 2])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    directory = tmp_path_factory.mktemp("checkpoints") / f"siglip{request.param}"
    return directory, write_siglip(directory, second=request.param == 2)


@pytest.fixture(scope="module")
def bundle(checkpoint: tuple[Path, Any]) -> Path:
    return comparing.export(checkpoint[0])


def test_pictures_are_those_of_its_own_processor(checkpoint: tuple[Path, Any], bundle: Path) -> None:
    processor = transformers.SiglipImageProcessorPil.from_pretrained(checkpoint[0])
    for picture in comparing.pictures():
        expected = processor(picture, return_tensors="np")["pixel_values"]
        found = comparing.processed(bundle, [picture])[0]
        assert np.abs(found - expected).max() * 0.5 < 1.001 / 255, picture.shape


def test_a_clip_is_the_mean_of_its_pictures(checkpoint: tuple[Path, Any], bundle: Path) -> None:
    pixels = comparing.processed(bundle, comparing.pictures([(50, 60)] * 4))
    with torch.no_grad():
        own = checkpoint[1].get_image_features(pixel_values=torch.from_numpy(pixels[0])).pooler_output
    comparing.assert_mean_of_pictures(bundle, pixels, own)


@pytest.mark.parametrize("text", SPELLINGS)
def test_tokens_are_its_own(checkpoint: tuple[Path, Any], bundle: Path, text: str) -> None:
    ids, _ = comparing.tokens(bundle, text)
    if checkpoint[0].name == "siglip2":
        own = transformers.Siglip2Tokenizer.from_pretrained(checkpoint[0])
        expected = own(text, padding="max_length", max_length=64)["input_ids"]
    else:  # SiglipTokenizer.canonicalize_text(); the class itself needs sentencepiece
        written = text.lower().translate(str.maketrans("", "", string.punctuation))
        written = re.sub(r"\s+", " ", written).strip()
        expected = Tokenizer.from_file(str(checkpoint[0] / "tokenizer.json")).encode(written).ids
        expected = (expected + [1] * 64)[:64]
    assert ids[0].tolist() == expected


@pytest.mark.parametrize("text", [TEXTS[0], "a dog"])
def test_texts_are_read_with_their_padding(checkpoint: tuple[Path, Any], bundle: Path, text: str) -> None:
    comparing.assert_text_embedding(
        bundle, text, lambda ids: checkpoint[1].get_text_features(input_ids=ids).pooler_output
    )


def test_scores_are_its_sigmoids(checkpoint: tuple[Path, Any], bundle: Path) -> None:
    pixels = comparing.processed(bundle, comparing.pictures([(40, 40)]) * 4)
    ids = torch.from_numpy(np.concatenate([comparing.tokens(bundle, text)[0] for text in TEXTS]))
    with torch.no_grad():
        logits = checkpoint[1](pixel_values=torch.from_numpy(pixels[0, :1]), input_ids=ids).logits_per_image
    scores, none = comparing.scores_of(bundle, pixels, TEXTS)
    assert np.abs(scores - logits.sigmoid()[0].numpy()).max() < 1e-4
    assert none == pytest.approx(1 - scores.max(), abs=1e-4)


def test_none_of_them_is_the_answer_when_every_score_is_below_a_half() -> None:
    settings = LabelSettings(temperature=0.01, bias=-10.0, none_below=0.1)
    for cosines, none in (([0.05, 0.09], True), ([0.05, 0.11], False), ([0.2, 0.3], False)):
        scores, of_none = label_scores(np.array(cosines, np.float32), settings)
        assert (scores.max() < 0.5) == (of_none > 0.5) == (max(cosines) < settings.none_below) == none
    assert scores.sum() > 1, "two labels may both apply"


@pytest.mark.parametrize("name", ["vision_encoder", "text_encoder"])
def test_attention_is_one_node_a_layer(bundle: Path, name: str) -> None:
    graph = onnx.load(bundle / f"{name}.onnx").graph
    assert sum(node.op_type == "Attention" for node in graph.node) >= 2
    softmaxes = sum(node.op_type == "Softmax" for node in graph.node)
    assert softmaxes == (1 if name == "vision_encoder" else 0), "only the pooling head, with one query, is spelled out"


def test_int8_keeps_the_caption_bank_as_it_computes(
    checkpoint: tuple[Path, Any], tmp_path: Path, make_video: Callable[..., Path]
) -> None:
    video = make_video([((0, 0, 255), 3), ((255, 0, 0), 3)])
    (tmp_path / "captions.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    options = ("--precision", "int8", "--calibrate-on", video, "--captions", tmp_path / "captions.txt")
    done = run_here("export", checkpoint[0], *options, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    engines = read_manifest(tmp_path / "out").engines
    assert (engines["vision_encoder"].precision, engines["decoder"].precision) == ("fp32", "fp32"), "no matrix is large"


def test_padding_in_front_is_refused(tmp_path: Path) -> None:
    write_siglip(tmp_path / "siglip")
    path = tmp_path / "siglip" / "tokenizer_config.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"right"', '"left"'), encoding="utf-8")
    done = run_here("export", tmp_path / "siglip", "--out", tmp_path / "out")
    assert done.returncode == 1 and "tokenizer_config.json" in done.stderr and done.stderr.count("\n") == 1
