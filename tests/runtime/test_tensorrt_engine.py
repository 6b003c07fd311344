"""The TensorRT adapter on a card and a TensorRT that enforce the real ones' rules (fake_card.py)."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.runtime import tiny_bundle as by_hand
from tests.runtime.fake_card import BrokenRule, FakeCard, FakeTensorRT
from tests.runtime.tiny_bundle import BLUE, GREEN, RED
from vlj_edge.built import Receipt, RuntimeId, publish, sources_of
from vlj_edge.bundle import FileSeal, Manifest, read_manifest
from vlj_edge.errors import VljEdgeError
from vlj_edge.runtime.engine import open_engine
from vlj_edge.runtime.pipeline import Model
from vlj_edge.runtime.tensorrt import engine as adapter
from vlj_edge.runtime.tensorrt.device import Buffer
from vlj_edge.trt import Trt


@dataclass
class Board:
    """A machine with a card: a bundle with built engines, and what stands in for TensorRT and CUDA."""

    card: FakeCard
    trt: FakeTensorRT
    bundle: Path
    manifest: Manifest

    def model(self) -> Model:
        return Model(self.bundle, backend="tensorrt")

    def open(self, name: str, **wanted: Any) -> Any:
        return open_engine(self.bundle, self.manifest, name, backend="tensorrt", **wanted)


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Board]]:
    """board(half=False, aliased=True) -> a Board; one a test."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))

    def make(half: bool = False, aliased: bool = True, memory: int = 1 << 30, sm: str = "sm86") -> Board:
        card = FakeCard(memory)
        trt = FakeTensorRT(card, aliased)
        bundle = by_hand.build(tmp_path / "bundle", half=half)
        manifest = read_manifest(bundle)
        for name, spec in manifest.engines.items():
            plan = f"plan of {name}".encode()
            trt.plans[plan] = (bundle / spec.file, spec)
            here = RuntimeId("tensorrt", trt.__version__, sm, card.name)
            publish(bundle, Receipt(name, "", FileSeal(0, ""), sources_of(manifest, name), {}, here, {}), plan)
        monkeypatch.setattr(adapter, "import_tensorrt", lambda: Trt(trt, "tensorrt", trt.__version__))
        monkeypatch.setattr(adapter, "open_device", lambda: card)
        adapter.session.cache_clear()
        return Board(card, trt, bundle, manifest)

    yield make
    adapter.session.cache_clear()


@pytest.fixture
def video(make_video: Callable[..., Path]) -> Path:
    return make_video([(RED, 4), (BLUE, 4), (GREEN, 4), (RED, 3)])


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
    list(model.narrate(video, every_window=True))
    before = here.card.counted["wait"]
    again = model.narrate(video, every_window=True)
    list(again)
    read = again.totals.predictor_runs + again.totals.decoder_tokens  # the embedding, and each token
    assert here.card.counted["wait"] - before == read


def test_visual_tokens_and_caches_never_come_to_the_host(board: Callable[..., Board]) -> None:
    here = board()
    encoder, _, predictor = here.model()._encoder
    decoder, _ = here.model()._decoder
    assert (list(encoder.inputs), list(encoder.outputs)) == (["pixels"], [])
    assert (list(predictor.inputs), list(predictor.outputs)) == (["query_ids", "query_mask"], ["embedding"])
    assert (list(decoder.inputs), list(decoder.outputs)) == (["embedding", "token", "position"], ["next_token"])
    assert encoder.buffers["visual_tokens"] is predictor.buffers["visual_tokens"]  # type: ignore[attr-defined]


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
    with pytest.raises(VljEdgeError, match="visual_tokens needs"):
        predictor.bind("visual_tokens", Buffer(tokens.address, 1))


def test_engines_of_two_backends_are_not_mixed(board: Callable[..., Board]) -> None:
    here = board()
    other = open_engine(here.bundle, here.manifest, "vision_encoder")
    with pytest.raises(VljEdgeError, match="another backend"):
        here.open("predictor", inputs_from={"visual_tokens": other})


# What goes wrong


def test_a_card_that_is_lost_takes_nothing_back(board: Callable[..., Board], video: Path) -> None:
    here = board()
    model = here.model()
    expected = [event.text for event in model.narrate(video, every_window=True)]
    here.card.lost_at = here.card.counted["launch"] + 60
    running, said = model.narrate(video, every_window=True), []
    with pytest.raises(VljEdgeError, match=r"the card was lost .*what was said until now stays") as error:
        for event in running:
            said.append(event.text)
    assert "\n" not in str(error.value)
    assert 3 < len(said) < len(expected) and said == expected[: len(said)]
    assert running.totals.decoder_runs >= len(said)


def test_no_memory_left_on_the_card(board: Callable[..., Board], video: Path) -> None:
    model = board(memory=2000).model()
    with pytest.raises(VljEdgeError, match=r"no memory left for .* MB; .* MB are free: close other programs"):
        model.narrate(video)


def test_a_failed_capture_is_an_error_and_leaves_no_capture_open(board: Callable[..., Board], video: Path) -> None:
    here = board()
    here.card.capture_fails = True
    with pytest.raises(VljEdgeError, match="refused while capturing a graph"):
        list(here.model().narrate(video))
    assert not here.card.recordings


def test_an_engine_that_fails_says_why(board: Callable[..., Board], monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.runtime import fake_card

    here = board()
    encoder = here.open("vision_encoder")
    monkeypatch.setattr(fake_card.FakeContext, "execute_async_v3", lambda self, stream: False)
    adapter.session().said.append("Cask kernel\nfailed")
    with pytest.raises(VljEdgeError, match=r"failed while running \(Cask kernel failed\)"):
        encoder.run()


def test_a_capture_that_breaks_is_closed(board: Callable[..., Board], monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.runtime import fake_card

    here = board()
    encoder = here.open("vision_encoder")
    real = fake_card.FakeContext.execute_async_v3
    failing = lambda self, stream: not here.card.recordings and real(self, stream)  # noqa: E731
    monkeypatch.setattr(fake_card.FakeContext, "execute_async_v3", failing)
    with pytest.raises(VljEdgeError, match="failed while running"):
        encoder.run()
    assert not here.card.recordings


def test_bytes_that_are_no_engine(board: Callable[..., Board]) -> None:
    here = board()
    here.trt.plans.clear()
    with pytest.raises(VljEdgeError, match=r"cannot be loaded \(Serialization assertion magicTag failed\)"):
        here.open("predictor")


def test_an_engine_with_another_interface(board: Callable[..., Board]) -> None:
    here = board()
    graph, spec = here.trt.plans[b"plan of predictor"]
    wrong = replace(spec, inputs=tuple(replace(t, shape=(1, 7)) if t.name == "query_ids" else t for t in spec.inputs))
    here.trt.plans[b"plan of predictor"] = (graph, wrong)
    with pytest.raises(VljEdgeError, match=r"query_ids is int64\[1, 6\], the engine says int64\[1, 7\]"):
        here.open("predictor")


def test_a_changed_engine_is_not_deserialised(board: Callable[..., Board]) -> None:
    here = board()
    [path] = here.bundle.glob("engines/*/predictor-*.engine")
    path.write_bytes(b"plan of decoder")
    with pytest.raises(VljEdgeError, match="not the engine that was built"):
        here.open("predictor")


def test_an_engine_for_another_card_is_not_found(board: Callable[..., Board]) -> None:
    here = board(sm="sm89")
    with pytest.raises(VljEdgeError, match=r"no predictor engine for fake-card-3060-sm86-tensorrt-9\.9\.9: run"):
        here.open("predictor")


def test_engines_from_elsewhere_run_when_they_are_named(
    board: Callable[..., Board], video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = board()
    [folder] = here.bundle.glob("engines/*")
    elsewhere = Path(shutil.move(folder, tmp_path / "elsewhere"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "another machine"))
    model = Model(here.bundle, engines=elsewhere)
    assert model.backend.name == "tensorrt" and str(elsewhere) in model.backend.line
    assert [event.text for event in model.narrate(video)]


# The rules of the card: each is broken here on purpose, so that the tests above mean something


class Careless(adapter.TrtEngine):
    """An adapter that does one thing wrong."""

    def wait(self) -> None:
        pass


def test_whoever_does_not_wait_reads_old_bytes(board: Callable[..., Board]) -> None:
    here = board()
    encoder = here.open("vision_encoder")
    encoder.__class__ = Careless
    encoder.run()
    first = encoder.outputs["visual_tokens"].copy()
    encoder.inputs["pixels"][...] = 1
    encoder.run()
    encoder.wait()
    np.testing.assert_array_equal(encoder.outputs["visual_tokens"], first)
    adapter.TrtEngine.wait(encoder)
    assert not np.array_equal(encoder.outputs["visual_tokens"], first)


def test_the_card_refuses_what_the_real_one_would(board: Callable[..., Board]) -> None:
    here = board()
    card, stream = here.card, here.card.stream()
    buffer = card.allocate(16)
    pinned = card.pinned((16,), np.uint8)
    with pytest.raises(BrokenRule, match="default stream"):
        card.copy_in(buffer, pinned, 0)
    with pytest.raises(BrokenRule, match="pageable"):
        card.copy_in(buffer, np.zeros(16, np.uint8), stream)
    with pytest.raises(BrokenRule, match="do not fit"):
        card.copy_in(card.allocate(8), pinned, stream)
    card.copy_in(buffer, pinned, stream)
    with pytest.raises(BrokenRule, match="while work was queued"):
        card.free(buffer)
    card.begin_capture(stream)
    for forbidden in (
        lambda: card.synchronise(stream),
        lambda: card.allocate(1),
        lambda: card.pinned((1,), np.uint8),
        lambda: card.wait(card.event()),
        lambda: card.begin_capture(stream),
    ):
        with pytest.raises(BrokenRule, match="during a capture"):
            forbidden()
    card.copy_out(pinned, buffer, stream)
    graph = card.end_capture(stream)
    card.synchronise(stream)
    card.free(buffer)
    card.launch(graph, stream)
    with pytest.raises(BrokenRule, match="nothing is allocated"):  # a graph keeps the addresses that it was made with
        card.synchronise(stream)


def test_tensorrt_refuses_what_the_real_one_would(board: Callable[..., Board]) -> None:
    here = board()
    stream = here.card.stream()
    runtime = here.trt.Runtime(SimpleNamespace(log=lambda *said: None))
    engine = runtime.deserialize_cuda_engine(b"plan of decoder")
    context = engine.create_execution_context()
    with pytest.raises(BrokenRule, match="has no address"):
        context.execute_async_v3(stream)
    for tensor in engine.tensors:
        context.set_tensor_address(tensor.name, here.card.allocate(4096).address)
    with pytest.raises(BrokenRule, match="the engine expects key_cache_0"):
        context.execute_async_v3(stream)
    for name, source in engine.aliases.items():
        context.set_tensor_address(name, context.addresses[source])
    here.card.begin_capture(stream)
    with pytest.raises(BrokenRule, match="captured before it had run"):
        context.execute_async_v3(stream)
    here.card.end_capture(stream)
    context.set_tensor_address("embedding", here.card.allocate(1).address)
    with pytest.raises(BrokenRule, match="do not fit"):
        context.execute_async_v3(stream)
    context.set_tensor_address("token", 12345)
    with pytest.raises(BrokenRule, match=r"nothing is allocated|do not fit"):
        context.execute_async_v3(stream)
