"""Parts of a clip's tokens on TensorRT: an optimization profile, a context and a graph for each number of them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.cli.command import run_here
from tests.runtime.engines import fake_runtime
from tests.runtime.engines.board import Board
from tests.runtime.engines.fake_card import BrokenRule
from vlj_edge.errors import VljEdgeError
from vlj_edge.runtime.engines.base import Engine, open_engine
from vlj_edge.runtime.model import Model

pytest.importorskip("torch", reason="torch is not installed")  # the bundle is exported

COUNTS = (32, 16, 8)  # of the profiles, in the order in which they are built


@pytest.fixture
def tokens(board: Callable[..., Board], token_bundle: Path, tmp_path: Path) -> Callable[..., Board]:
    """tokens(counts=COUNTS) -> a Board whose engines were built for these numbers of tokens; (): for all alone."""
    own = shutil.copytree(token_bundle, tmp_path / "tokens")
    return lambda counts=COUNTS, **others: board(bundle=own, counts=counts, **others)


def test_the_real_tensorrt_has_what_the_fake_has() -> None:
    real = pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    names = {
        "ICudaEngine": "device_memory_size_v2 num_optimization_profiles get_tensor_profile_shape create_runtime_config",
        "IExecutionContext": "set_optimization_profile_async set_input_shape set_device_memory",
        "IRuntimeConfig": "set_execution_context_allocation_strategy dynamic_shapes_kernel_specialization_strategy",
    }
    for owner, members in names.items():
        assert all(hasattr(getattr(real, owner), name) for name in members.split())
    assert hasattr(real.ExecutionContextAllocationStrategy, "USER_MANAGED")
    assert hasattr(real.DynamicShapesKernelSpecializationStrategy, "EAGER")


def vision(here: Board, backend: str) -> tuple[Engine, Engine]:
    encoder = open_engine(here.bundle, here.manifest, "vision_encoder", backend=backend, outputs_read=None)
    inputs_from = {"visual_tokens": encoder}
    return encoder, open_engine(here.bundle, here.manifest, "predictor", backend=backend, inputs_from=inputs_from)


def embedding(engines: tuple[Engine, Engine], seed: int, kept: np.ndarray | None) -> np.ndarray:
    encoder, predictor = engines
    rng = np.random.default_rng(seed)
    encoder.inputs["pixels"][...] = rng.standard_normal(encoder.inputs["pixels"].shape)
    predictor.inputs["query_ids"][...], predictor.inputs["query_mask"][...] = 1, True
    for engine in engines:
        if kept is not None:
            engine.keep_tokens(kept)
        engine.run()
    predictor.wait()
    return predictor.outputs["embedding"][0].copy()


def test_every_number_of_tokens_gives_what_onnx_runtime_gives(tokens: Callable[..., Board]) -> None:
    here = tokens()
    ours, theirs, rng = vision(here, "tensorrt"), vision(here, "onnxruntime"), np.random.default_rng(0)
    assert all(engine.takes_parts for engine in (*ours, *theirs))
    np.testing.assert_array_equal(embedding(ours, 0, None), embedding(theirs, 0, None))
    for seed, count in enumerate((8, 32, 16, 8, 8, 16, 32)):
        kept = np.sort(rng.permutation(32)[:count])
        np.testing.assert_array_equal(embedding(ours, seed, kept), embedding(theirs, seed, kept))


@pytest.mark.parametrize("newer", [True, False], ids=["TensorRT-RTX", "TensorRT 10.3"])
def test_each_number_has_a_context_and_a_graph_which_are_made_once(tokens: Callable[..., Board], newer: bool) -> None:
    here = tokens(aliased=newer)
    encoder, predictor = engines = vision(here, "tensorrt")
    for count in (16, 8, 32):
        embedding(engines, 0, np.arange(count))
    for engine in engines:
        contexts = engine._engine.contexts  # type: ignore[attr-defined]
        assert [context.profile for context in contexts] == [0, 1, 2], "all tokens first: the profile that is implied"
        assert len({context.scratch for context in contexts}) == 1, "they never run at once"
    before = here.card.counted.copy()
    assert before["capture"] == 6
    for count in (8, 16, 32, 8):
        embedding(engines, 1, np.arange(count))
    after = here.card.counted - before
    assert after["launch"] == 8
    assert not any(after[what] for what in ("allocate", "pinned", "capture", "copy_in", "copy_out"))
    assert encoder.buffers["visual_tokens"] is predictor.buffers["visual_tokens"]  # type: ignore[attr-defined]


def test_a_run_computes_what_moved_on_the_card_too(tokens: Callable[..., Board]) -> None:
    here, frames = tokens(), pictures()
    found = []
    for backend in ("tensorrt", "onnxruntime"):
        with Model(here.bundle, backend=backend, tokens="auto") as model:
            with model.embed(iter(frames), every_window=True) as run:
                found.append(np.stack([item.embedding for item in run]))
            assert run.totals.tokens_kept == run.totals.tokens / 2, "one place of 16 moves"
    np.testing.assert_allclose(*found, atol=1e-6)


def pictures() -> list[tuple[float, np.ndarray]]:
    """A still picture in which something small moves up and down."""
    found = []
    for number in range(10):
        image = np.full((36, 36, 3), 90, np.uint8)
        image[4 + number % 2 * 3 : 8 + number % 2 * 3, 4:8] = 250
        found.append((number / 4.0, image))
    return found


def test_pixels_are_made_on_the_card_and_tokens_chosen_on_the_host(tokens: Callable[..., Board]) -> None:
    with Model(tokens().bundle, backend="tensorrt", tokens=0.5, pixels_on_card=True) as model:
        assert list(model.chain.vision.encoder.inputs) == ["kept"]


def test_every_number_is_profiled(tokens: Callable[..., Board]) -> None:
    here = tokens()
    done = run_here("profile", here.bundle, "--backend", "tensorrt", "--engines-only", "--windows", "2", "--json")
    assert done.returncode == 0, done.stderr
    assert all(f'"tokens": {count}' in done.stdout for count in COUNTS)


def test_engines_of_an_earlier_version_take_all_tokens_and_say_how_to_get_others(tokens: Callable[..., Board]) -> None:
    here, frames = tokens(counts=()), pictures()
    with Model(here.bundle, backend="tensorrt") as model, Model(here.bundle, backend="onnxruntime") as other:
        for a, b in zip(model.embed(iter(frames)), other.embed(iter(frames)), strict=True):
            np.testing.assert_array_equal(a.embedding, b.embedding)
    for choice in ("auto", 0.5):
        with Model(here.bundle, backend="tensorrt", tokens=choice) as model, pytest.raises(VljEdgeError) as caught:  # type: ignore[arg-type]
            model.embed(iter(frames))
        assert f"vlj-edge build {here.bundle}" in str(caught.value) and "\n" not in str(caught.value)
    encoder, _ = vision(here, "tensorrt")
    assert not encoder.takes_parts
    encoder.keep_tokens(np.arange(32))
    with pytest.raises(VljEdgeError, match="vlj-edge build"):
        encoder.keep_tokens(np.arange(16))


def test_engines_for_other_numbers_of_tokens_are_refused(tokens: Callable[..., Board]) -> None:
    with pytest.raises(VljEdgeError, match=r"built for 16, 32 tokens .* 8, 16, 32: run vlj-edge build"):
        vision(tokens(counts=(32, 16)), "tensorrt")


def test_a_profile_that_tensorrt_refuses_is_an_error(
    tokens: Callable[..., Board], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, _ = vision(tokens(), "tensorrt")

    def refuse(self: Any, profile: int, stream: int) -> bool:
        raise RuntimeError("Error in set optimization profile async.")

    for name, broken in (
        ("set_optimization_profile_async", refuse),
        ("set_optimization_profile_async", lambda self, profile, stream: False),
        ("set_input_shape", lambda self, name, shape: False),
    ):
        with monkeypatch.context() as patch, pytest.raises(VljEdgeError, match=r"refuses 8 tokens .*--tokens all"):
            patch.setattr(fake_runtime.FakeContext, name, broken)
            encoder.keep_tokens(np.arange(8))
    monkeypatch.setattr(fake_runtime.FakeEngine, "create_execution_context", lambda self, strategy: None)
    with pytest.raises(VljEdgeError, match="does not fit on the card"):
        encoder.keep_tokens(np.arange(16))


def test_no_memory_for_the_contexts(tokens: Callable[..., Board]) -> None:
    used = 4 * 4 * 3 * 32 * 32 + 8 * 32 + 4 * 32 * 48  # pixels, kept, visual_tokens
    tokens(memory=used + 1000).open("vision_encoder")
    with pytest.raises(VljEdgeError, match="no memory left"):
        tokens(memory=used + 999).open("vision_encoder")


def test_one_context_whose_profile_is_switched_under_its_graph_is_noticed(tokens: Callable[..., Board]) -> None:
    """What a context for each number of tokens is for."""
    encoder, _ = vision(tokens(), "tensorrt")
    encoder.run()
    context = encoder._current.context  # type: ignore[attr-defined]
    context.set_optimization_profile_async(1, encoder.stream)  # type: ignore[attr-defined]
    for tensor in encoder.spec.by_tokens:  # type: ignore[attr-defined]
        assert context.set_input_shape(tensor.name, tensor.shape_of(16))
    with pytest.raises(BrokenRule, match="context was changed"):
        encoder.run()
        encoder.wait()
