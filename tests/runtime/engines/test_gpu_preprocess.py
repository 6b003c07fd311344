"""Preprocessing on the GPU. The fake GPU runs the kernels' own source on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.runtime.engines.board import Board
from vlj_edge.errors import VljEdgeError
from vlj_edge.runtime.engines.tensorrt.preprocess import GpuPreprocessor, gpu_preprocessor
from vlj_edge.runtime.model import Model
from vlj_edge.runtime.video import preprocess
from vlj_edge.runtime.video.preprocess import CpuPreprocessor
from vlj_edge.runtime.video.resize import resize_with_pillow
from vlj_edge.runtime.video.source import Source
from vlj_edge.runtime.video.uri import open_source

Make = Callable[..., Board]


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("every_window", [False, True])
def test_texts_and_embeddings_equal_those_of_the_cpu_path(
    board: Make, video: Path, half: bool, every_window: bool
) -> None:
    here = board(half=half)
    ours, theirs = Model(here.bundle, backend="tensorrt", pixels_on_card=True), here.model()
    for model in (ours, theirs):
        assert isinstance(model.chain.vision[1], GpuPreprocessor if model is ours else CpuPreprocessor)

    def part() -> Source:
        return open_source(video, end=6)  # two colours

    said = list(ours.narrate(part(), every_window=every_window))
    assert said == list(theirs.narrate(part(), every_window=every_window)) and len({each.text for each in said}) > 1
    for a, b in zip(ours.embed(part()), theirs.embed(part()), strict=True):
        np.testing.assert_array_equal(a.embedding, b.embedding)


def test_each_frame_is_one_copy_in_and_one_thumbnail_out(board: Make, video: Path) -> None:
    here = board()
    model = Model(here.bundle, backend="tensorrt", pixels_on_card=True)
    list(model.embed(video, every_window=True))
    card = here.card
    before = card.counted.copy()
    passed = model.embed(video, every_window=True)
    list(passed)
    after = card.counted - before
    frames = after["start"] // 2
    assert frames >= passed.totals.windows and after["start"] == 2 * frames, "two kernels a frame, and each frame once"
    assert after["copy_in"] == after["copy_out"] == frames
    assert not any(after[what] for what in ("pinned", "capture", "kernel"))
    assert "pixels" not in model.chain.vision[0].inputs, "the encoder's graph copies no pixels in"


def test_memory_of_frames_is_reused(board: Make, video: Path) -> None:
    here = board()
    model = Model(here.bundle, backend="tensorrt", pixels_on_card=True, overlap=False)
    for _ in range(2):  # in the second run the encoder's input still holds frames of the first
        list(model.embed(open_source(video, end=4), every_window=True))
    allocated = here.card.counted["allocate"]
    for _ in range(2):
        list(model.embed(open_source(video, end=4), every_window=True))
    assert here.card.counted["allocate"] == allocated


def test_frames_of_several_sizes(board: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preprocess, "resize", resize_with_pillow)  # whose arithmetic is the kernels'
    here = board()
    model = Model(here.bundle, backend="tensorrt", pixels_on_card=True)
    host = here.model().chain.vision[1]
    rng = np.random.default_rng(0)
    for shape in ((48, 64, 3), (61, 90, 3), (48, 64, 3)):
        image = rng.integers(0, 256, shape, np.uint8)
        np.testing.assert_allclose(model.chain.vision[1].crop(image).luminance, host.crop(image).luminance, atol=1e-6)
    with pytest.raises(VljEdgeError, match="6000 pixels"):
        model.chain.vision[1].crop(np.zeros((4000, 6000, 3), np.uint8))


def test_other_backends_and_unknown_gpus_are_errors(board: Make) -> None:
    here = board()
    with pytest.raises(VljEdgeError, match="TensorRT"):
        Model(here.bundle, backend="onnxruntime", pixels_on_card=True)
    model = here.model()
    encoder = model.chain.vision[0]
    here.card.sm = "sm72"
    with pytest.raises(VljEdgeError, match="not for sm72"):
        gpu_preprocessor(encoder, model.manifest.preprocess)
