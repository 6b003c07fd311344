"""The TensorRT adapter on a fake GPU (fake_card.py) and a fake TensorRT (fake_runtime.py) with the real ones' rules."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.runtime import tiny_bundle as by_hand
from tests.runtime.engines.board import Board
from vlj_edge.bundle import EngineSpec
from vlj_edge.errors import VljEdgeError
from vlj_edge.runtime.engines.base import open_engine
from vlj_edge.runtime.engines.tensorrt import engine as adapter
from vlj_edge.runtime.engines.tensorrt.device import Buffer
from vlj_edge.runtime.model import Model


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("aliased", [True, False])
@pytest.mark.parametrize("every_window", [True, False])
def test_it_says_and_embeds_what_onnx_runtime_does(
    board: Callable[..., Board], video: Path, half: bool, aliased: bool, every_window: bool
) -> None:
    here = board(half=half, aliased=aliased)
    ours, theirs = here.model(), Model(here.bundle, backend="onnxruntime")
    assert list(ours.narrate(video, every_window=every_window)) == list(
        theirs.narrate(video, every_window=every_window)
    )
    for a, b in zip(ours.embed(video), theirs.embed(video), strict=True):
        np.testing.assert_array_equal(a.embedding, b.embedding)
    np.testing.assert_array_equal(ours.embed_text("a red screen"), theirs.embed_text("a red screen"))


def test_all_is_allocated_and_captured_once_and_then_only_launched(board: Callable[..., Board], video: Path) -> None:
    here = board()
    model = here.model()
    list(model.narrate(video, every_window=True))
    before = here.card.counted.copy()
    totals = model.narrate(video, every_window=True)
    list(totals)
    after = here.card.counted - before
    runs = totals.totals
    assert runs.encoder_runs > 10 and runs.decoder_tokens > runs.decoder_runs
    assert after["launch"] == runs.encoder_runs + runs.predictor_runs + runs.decoder_tokens
    assert not any(after[what] for what in ("allocate", "pinned", "capture", "copy_in", "copy_out"))
    assert before["capture"] == 3


def test_the_host_waits_only_where_it_reads(board: Callable[..., Board], video: Path) -> None:
    here = board()
    model = here.model()
    waits = 0
    for firsts in (3, 0):  # each of the three engines waits once more, before it is captured
        passed = model.narrate(video, every_window=True)
        list(passed)
        read = passed.totals.predictor_runs + passed.totals.decoder_tokens  # the embedding, and each token
        assert here.card.counted["wait"] - waits == read + firsts
        waits = here.card.counted["wait"]


@pytest.mark.parametrize("aliased", [True, False])
def test_visual_tokens_and_caches_never_come_to_the_host(
    board: Callable[..., Board], video: Path, aliased: bool
) -> None:
    here = board(aliased=aliased)
    model = here.model()
    list(model.narrate(video))
    encoder, _, predictor = model.chain.vision
    decoder, _ = model.chain.decoder
    assert (list(encoder.inputs), list(encoder.outputs)) == (["pixels"], [])
    assert (list(predictor.inputs), list(predictor.outputs)) == (["query_ids", "query_mask"], ["embedding"])
    assert (list(decoder.inputs), list(decoder.outputs)) == (["token", "position"], ["next_token"])
    assert encoder.buffers["visual_tokens"] is predictor.buffers["visual_tokens"]  # type: ignore[attr-defined]
    for engine, names in ((predictor, {"embedding"}), (decoder, {"next_token"})):
        read = {name for name, buffer in engine.buffers.items() if buffer.address in here.card.to_host}  # type: ignore[attr-defined]
        assert read == names
    assert len(here.card.to_host) == 2 and len(here.card.from_host) == 1 + 2 + 2
    assert decoder.buffers["embedding"].address not in here.card.from_host  # type: ignore[attr-defined]


def test_a_mean_of_embeddings_goes_to_the_card_once_a_text(board: Callable[..., Board], video: Path) -> None:
    here = board()
    gates = replace(here.manifest.gates, meaning=replace(here.manifest.gates.meaning, smoothing=2))
    model = here.model()
    expected = list(Model(here.bundle, backend="onnxruntime").narrate(video, gates=gates))
    assert list(model.narrate(video, gates=gates)) == expected
    copies = here.card.counted["copy_in"]
    again = model.narrate(video, gates=gates)
    assert list(again) == expected and again.totals.decoder_tokens > again.totals.decoder_runs > 1
    assert here.card.counted["copy_in"] - copies == again.totals.decoder_runs


def test_what_is_kept_stays_while_somebody_holds_it(board: Callable[..., Board]) -> None:
    here = board()
    encoder = here.open("vision_encoder")
    predictor = here.open("predictor", inputs_from={"visual_tokens": encoder})
    decoder = here.open("decoder", constant_inputs=("embedding",), outputs_read=("next_token",))

    def predict(value: float) -> tuple[Any, np.ndarray]:
        encoder.inputs["pixels"][...] = value
        encoder.run()
        predictor.run()
        kept = predictor.keep_output("embedding")
        predictor.wait()
        return kept, predictor.outputs["embedding"][0].copy()

    held = [predict(0.01 * number) for number in range(adapter._KEPT_OUTPUTS)]
    allocated = here.card.counted["allocate"]
    assert predict(1.0)[0] is None, "there is no place left"
    for kept, embedding in held:
        at = here.card.bytes_at(kept.buffer.address, kept.buffer.size)
        np.testing.assert_array_equal(at.view(np.float32), embedding)
    del kept, held[3:]
    assert all(predict(0.5)[0] is not None for _ in range(100)), "a place that nobody holds is used again"
    for kept, embedding in held:
        decoder.set_input("embedding", kept)
        decoder.run()
        decoder.wait()
        lies = decoder.buffers["embedding"]
        np.testing.assert_array_equal(here.card.bytes_at(lies.address, lies.size).view(np.float32), embedding)
    assert here.card.counted["allocate"] == allocated
    with pytest.raises(VljEdgeError, match=r"embedding .*\d+ bytes.* 4"):
        decoder.set_input("embedding", adapter.DeviceOutput(Buffer(held[0][0].buffer.address, 4), []))


@pytest.mark.parametrize("aliased", [True, False])
def test_caches_share_memory_only_where_tensorrt_says_so(board: Callable[..., Board], aliased: bool) -> None:
    buffers = board(aliased=aliased).open("decoder").buffers
    assert (buffers["key_cache_0"] is buffers["key_cache_out_0"]) == aliased


def test_another_address_is_captured_again(board: Callable[..., Board]) -> None:
    here = board()
    encoder, predictor = here.open("vision_encoder"), here.open("predictor")
    tokens = encoder.buffers["visual_tokens"]
    encoder.inputs["pixels"][:, :, 0] = 1
    for _ in range(3):
        encoder.run()
        predictor.run()
    predictor.wait()
    alone = predictor.outputs["embedding"].copy()
    captures = here.card.counted["capture"]
    predictor.bind("visual_tokens", tokens)
    for _ in range(3):
        predictor.run()
        predictor.wait()
        assert predictor.outputs["embedding"].argmax() == 0 and not np.array_equal(
            predictor.outputs["embedding"], alone
        )
    assert here.card.counted["capture"] == captures + 1 and "visual_tokens" not in predictor.inputs
    with pytest.raises(VljEdgeError, match="visual_tokens"):
        predictor.bind("visual_tokens", Buffer(tokens.address, 1))


def test_engines_of_two_backends_are_not_mixed(board: Callable[..., Board]) -> None:
    here = board()
    other = open_engine(here.bundle, here.manifest, "vision_encoder")
    with pytest.raises(VljEdgeError, match="another backend"):
        here.open("predictor", inputs_from={"visual_tokens": other})


def test_what_numpy_does_not_know_stays_on_the_card(board: Callable[..., Board]) -> None:
    here = board()

    def in_bfloat16(spec: EngineSpec) -> EngineSpec:
        tensors = {
            side: tuple(replace(t, dtype="bfloat16") if t.name == "visual_tokens" else t for t in getattr(spec, side))
            for side in ("inputs", "outputs")
        }
        return replace(spec, **tensors)

    changed = {name: in_bfloat16(spec) for name, spec in here.manifest.engines.items()}
    here.manifest = replace(here.manifest, engines=changed)
    here.trt.plans = {plan: (graph, in_bfloat16(spec)) for plan, (graph, spec) in here.trt.plans.items()}
    encoder = here.open("vision_encoder", outputs_read=())
    predictor = here.open("predictor", inputs_from={"visual_tokens": encoder})
    assert predictor.buffers["visual_tokens"].size == 2 * by_hand.FRAMES * 3
    for name in ("vision_encoder", "predictor"):
        with pytest.raises(VljEdgeError, match=r"visual_tokens .*bfloat16"):
            here.open(name)


def test_an_engine_tells_how_long_it_took(board: Callable[..., Board]) -> None:
    encoder = board().open("vision_encoder")
    encoder.run()
    encoder.wait()
    steps = encoder.milliseconds()  # on the fake card: what was queued between
    encoder.run()
    encoder.wait()
    assert steps == 3 and encoder.milliseconds() == 1, "three pieces of work, then one graph"


def test_it_can_be_loaded_and_run_by_any_thread(board: Callable[..., Board], video: Path) -> None:
    here = board()
    expected = list(Model(here.bundle, backend="onnxruntime").narrate(video))
    here.card.current.clear()  # whichever thread comes, it has to enter
    model, said = here.model(), []
    for _ in range(2):
        thread = threading.Thread(target=lambda: said.append(list(model.narrate(video))))
        thread.start()
        thread.join()
    assert said == [expected, expected]
