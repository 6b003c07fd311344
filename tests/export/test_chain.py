"""Export and runtime together: the results for a video equal those of the torch model for its clips."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

import vlj_edge
from tests.export.tiny_weights import TINY
from vlj_edge.export.bundle import Exported
from vlj_edge.export.weights.locations import WeightSources
from vlj_edge.export.weights.sources import open_weights
from vlj_edge.runtime.model import Model
from vlj_edge.runtime.video.preprocess import CpuPreprocessor, crop_and_resize

Parts = dict[str, Any]  # engine -> module


@pytest.fixture(scope="module")
def parts(tiny_weights: Path) -> Parts:
    return {name: load() for name, load in open_weights(WeightSources(tiny_weights), TINY).loaders.items()}


@pytest.fixture(scope="module")
def model(exported: Callable[[str], Exported]) -> Model:
    return vlj_edge.load(exported("fp32").bundle)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 9 pictures, at the clip's rate: 6 windows of 4."""
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for i in range(9):
        coarse = rng.integers(0, 256, (3, 4, 3), np.uint8)
        cv2.imwrite(str(folder / f"{i}.png"), cv2.resize(coarse, (60, 44), interpolation=cv2.INTER_CUBIC))
    return folder


def clips(pictures: Path) -> list[torch.Tensor]:
    images = [cv2.imread(str(path)) for path in sorted(pictures.iterdir())]
    pixels = np.empty((1, TINY.clip.frames, 3, TINY.preprocess.crop, TINY.preprocess.crop), np.float32)
    found = []
    for start in range(len(images) - TINY.clip.frames + 1):
        seen = [crop_and_resize(image, TINY.preprocess) for image in images[start : start + TINY.clip.frames]]
        CpuPreprocessor(pixels, TINY.preprocess).fill(seen)
        found.append(torch.from_numpy(pixels.copy()))
    return found


def torch_embedding(parts: Parts, model: Model, clip: torch.Tensor) -> torch.Tensor:
    ids, mask = model.chain.query(TINY.default_query)
    tokens = parts["vision_encoder"](clip)
    embedding: torch.Tensor = parts["predictor"](tokens, torch.from_numpy(ids), torch.from_numpy(mask))
    return embedding


def test_embeddings_of_a_source_are_those_of_torch(parts: Parts, model: Model, pictures: Path) -> None:
    found = list(model.embed(pictures, every_window=True))
    expected = [torch_embedding(parts, model, clip) for clip in clips(pictures)]
    assert len(found) == len(expected) == 6
    for item, embedding in zip(found, expected, strict=True):
        assert np.abs(item.embedding - embedding[0].numpy()).max() < 1e-5
    assert len({item.embedding.tobytes() for item in found}) == 6, "every clip differs, and so must its embedding"


def test_texts_of_a_source_are_those_of_torch(parts: Parts, model: Model, pictures: Path) -> None:
    said = [narration.text for narration in model.narrate(pictures, every_window=True)]
    _, tokens = model.chain.decoder
    expected = [
        tokens.decode(parts["decoder"].generate(torch_embedding(parts, model, clip), TINY.decoder_end))
        for clip in clips(pictures)
    ]
    assert said == expected
    assert len(set(said)) > 1, "the embedding has an influence on the text"


def test_embeddings_of_texts_are_those_of_torch(parts: Parts, model: Model) -> None:
    _, tokens = model.chain.text_encoder
    for text in ("nothing moves", "the arm"):
        expected = parts["text_encoder"](*(torch.from_numpy(x) for x in tokens.encode(text)))[0].numpy()
        cosine = float(model.embed_text(text) @ expected)
        assert cosine > 0.995, "int8 storage moves an embedding by no more than this"
