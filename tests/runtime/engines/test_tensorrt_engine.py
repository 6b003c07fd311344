"""The TensorRT adapter on a fake GPU and TensorRT that enforce the rules of the real ones (fake_card.py)."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.runtime import tiny_bundle as by_hand
from tests.runtime.engines import fake_card
from tests.runtime.engines.fake_card import BrokenRule, FakeCard, FakeTensorRT
from tests.runtime.tiny_bundle import BLUE, GREEN, RED
from vlj_edge.bundle import EngineSpec, FileSeal, Manifest, read_manifest
from vlj_edge.bundle.engine_cache import Receipt, RuntimeId, engine_sources, store_engine
from vlj_edge.errors import VljEdgeError
from vlj_edge.runtime.engines.base import open_engine
from vlj_edge.runtime.engines.tensorrt import engine as adapter
from vlj_edge.runtime.engines.tensorrt.device import Buffer
from vlj_edge.runtime.model import Model
from vlj_edge.tensorrt_package import TensorRtPackage


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

    def make(half: bool = False, aliased: bool = True, memory: int = 1 << 30, **built_for: str) -> Board:
        card = FakeCard(memory)
        trt = FakeTensorRT(card, aliased)
        bundle = by_hand.build(tmp_path / "bundle", half=half)
        manifest = read_manifest(bundle)
        for name, spec in manifest.engines.items():
            plan = f"plan of {name}".encode()
            trt.plans[plan] = (bundle / spec.file, spec)
            here = replace(RuntimeId("tensorrt", trt.__version__, card.sm, card.name), **built_for)
            store_engine(bundle, Receipt(name, "", FileSeal(0, ""), engine_sources(manifest, name), {}, here, {}), plan)
        monkeypatch.setattr(adapter, "import_tensorrt", lambda: TensorRtPackage(trt, "tensorrt", trt.__version__))
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
    with pytest.raises(VljEdgeError, match=r"embedding has \d+ bytes on the card, what was kept 4"):
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
    with pytest.raises(VljEdgeError, match=r"the card was lost") as error:
        for event in running:
            said.append(event.text)
    assert "\n" not in str(error.value)
    assert 3 < len(said) < len(expected) and said == expected[: len(said)]
    assert running.totals.decoder_runs >= len(said)
    with pytest.raises(VljEdgeError, match="the card was lost"):  # and it stays lost
        list(model.narrate(video))


def test_no_memory_left_on_the_card(board: Callable[..., Board], video: Path) -> None:
    model = board(memory=2000).model()
    with pytest.raises(VljEdgeError, match=r"no memory left for .* MB; .* MB are free: close other programs"):
        model.narrate(video)


def test_a_failed_capture_is_an_error_and_leaves_no_capture_open(board: Callable[..., Board], video: Path) -> None:
    here = board()
    here.card.capture_fails = True
    model = here.model()
    for attempt in (1, 2):
        with pytest.raises(VljEdgeError, match="refused while capturing a graph"):
            list(model.narrate(video))
        assert not here.card.recordings
        assert here.card.counted["capture"] == attempt and not here.card.counted["launch"]


def test_an_engine_that_fails_says_why(board: Callable[..., Board], monkeypatch: pytest.MonkeyPatch) -> None:
    here = board()
    encoder = here.open("vision_encoder")
    monkeypatch.setattr(fake_card.FakeContext, "execute_async_v3", lambda self, stream: False)
    adapter.session().errors.append("Cask kernel\nfailed")
    with pytest.raises(VljEdgeError, match=r"failed while running \(Cask kernel failed\)"):
        encoder.run()


@pytest.mark.parametrize("broken", [False, True], ids=["the capture goes on", "it is broken by that"])
def test_an_engine_that_fails_in_a_capture_says_why_and_leaves_none_open(
    board: Callable[..., Board], monkeypatch: pytest.MonkeyPatch, broken: bool
) -> None:
    here = board()
    encoder = here.open("vision_encoder")
    real = fake_card.FakeContext.execute_async_v3

    def failing(context: fake_card.FakeContext, stream: int) -> bool:
        if not here.card.recordings:
            return real(context, stream)
        adapter.session().errors.append("operation not permitted when stream is capturing")
        return False

    monkeypatch.setattr(fake_card.FakeContext, "execute_async_v3", failing)
    here.card.capture_fails = broken
    with pytest.raises(VljEdgeError, match=r"failed while running \(operation not permitted when stream is capturing"):
        encoder.run()
    assert not here.card.recordings


def test_bytes_that_are_no_engine(board: Callable[..., Board], capfd: pytest.CaptureFixture[str]) -> None:
    here = board()
    here.trt.plans.clear()
    with pytest.raises(VljEdgeError, match=r"cannot be loaded \(Serialization assertion magicTag failed\)"):
        here.open("predictor")
    assert len(adapter.session().errors) == 1, "warnings are not kept"
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": (1, 7)}, r"query_ids is int64\[1, 6\], the engine says int64\[1, 7\]"),
        ({"dtype": "int32"}, r"query_ids is int64\[1, 6\], the engine says int32\[1, 6\]"),
        ({"name": "ids"}, r"ids is absent, the engine says int64\[1, 6\]"),
        (None, r"query_ids is int64\[1, 6\], the engine says absent"),
    ],
)
def test_an_engine_with_another_interface(
    board: Callable[..., Board], change: dict[str, Any] | None, message: str
) -> None:
    here = board()
    graph, spec = here.trt.plans[b"plan of predictor"]
    kept = [t for t in spec.inputs if t.name != "query_ids"]
    changed = [replace(t, **change) for t in spec.inputs if t.name == "query_ids"] if change is not None else []
    here.trt.plans[b"plan of predictor"] = (graph, replace(spec, inputs=(*kept, *changed)))
    with pytest.raises(VljEdgeError, match=f"the manifest says {message}: run vlj-edge build again"):
        here.open("predictor")
    assert not here.card.counted["allocate"]


def test_a_changed_engine_is_not_deserialised(board: Callable[..., Board]) -> None:
    here = board()
    [path] = here.bundle.glob("engines/*/predictor-*.engine")
    path.write_bytes(b"plan of decoder")
    with pytest.raises(VljEdgeError, match="not the engine that was built"):
        here.open("predictor")


@pytest.mark.parametrize("built_for", [{"sm": "sm89"}, {"version": "9.9.8"}, {"package": "tensorrt_rtx"}])
def test_an_engine_for_another_card_or_version_is_not_found(
    board: Callable[..., Board], built_for: dict[str, str]
) -> None:
    here = board(**built_for)
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
    assert model.backend.name == "tensorrt" and str(elsewhere) in model.backend.reason
    assert [event.text for event in model.narrate(video)]


def test_tensorrt_that_refuses_an_address_is_an_error(
    board: Callable[..., Board], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = board()
    monkeypatch.setattr(fake_card.FakeContext, "set_tensor_address", lambda self, name, address: name != "query_ids")
    with pytest.raises(VljEdgeError, match="refuses the memory of query_ids"):
        here.open("predictor")


def test_an_engine_without_room_to_run_says_why(board: Callable[..., Board], monkeypatch: pytest.MonkeyPatch) -> None:
    here = board()
    monkeypatch.setattr(fake_card.FakeEngine, "create_execution_context", lambda self: None)
    adapter.session().errors.append("OutOfMemory\n(no further information)")
    with pytest.raises(VljEdgeError, match=r"does not fit on the card \(OutOfMemory \(no further information\)\)"):
        here.open("predictor")


def test_tensorrt_that_does_not_start_is_an_error(board: Callable[..., Board], monkeypatch: pytest.MonkeyPatch) -> None:
    here = board()
    monkeypatch.setattr(here.trt, "Runtime", lambda log: None)
    with pytest.raises(VljEdgeError, match=r"tensorrt 9\.9\.9 does not start here .*--backend onnxruntime"):
        here.open("predictor")


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
        with pytest.raises(VljEdgeError, match="visual_tokens is bfloat16, which the host cannot read"):
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


def test_the_real_tensorrt_ranks_its_messages_as_the_fake_does() -> None:
    real = pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    said: list[str] = []
    log = adapter._logger(real, said)
    for severity in ("INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE"):
        log.log(getattr(real.ILogger, severity), severity)
    assert said == ["INTERNAL_ERROR", "ERROR"]
    assert hasattr(real.ICudaEngine, "get_aliased_input_tensor") and hasattr(real.IExecutionContext, "execute_async_v3")
    assert "-> bool" in real.IExecutionContext.set_tensor_address.__doc__


# The rules of the card: each is broken here on purpose, so that the tests above mean something


class Careless(adapter.TrtEngine):
    """Does not wait."""

    def wait(self) -> None:
        pass


class KeepsItsGraph(adapter.TrtEngine):
    """Does not capture again after an address has changed."""

    def bind(self, name: str, buffer: Buffer) -> None:
        graph = self._graph
        super().bind(name, buffer)
        self._graph = graph


class Hasty(adapter.TrtEngine):
    """Captures what has never run."""

    def run(self) -> None:
        device = self._session.device
        device.begin_capture(self.stream)
        try:
            self._enqueue()
        finally:
            self._graph = device.end_capture(self.stream)


class Waits(adapter.TrtEngine):
    """Waits between two pieces of work, which cannot be captured."""

    def _enqueue(self) -> None:
        super()._enqueue()
        self._session.device.synchronise(self.stream)


class OnTheDefaultStream(adapter.TrtEngine):
    """Names no stream."""

    def _enqueue(self) -> None:
        self._context.execute_async_v3(0)


class Allocates(adapter.TrtEngine):
    """Takes new memory for every run."""

    def _enqueue(self) -> None:
        self.buffers["pixels"] = self._session.device.allocate(self.buffers["pixels"].size)
        super()._enqueue()


@pytest.mark.parametrize(
    ("wrong", "rule"),
    [
        (Hasty, "captured before it had run once"),
        (Waits, "synchronised during a capture"),
        (OnTheDefaultStream, "default stream"),
        (Allocates, "allocated during a capture"),
    ],
)
def test_an_adapter_that_breaks_a_rule_is_noticed(board: Callable[..., Board], wrong: type, rule: str) -> None:
    encoder = board().open("vision_encoder")
    encoder.__class__ = wrong
    with pytest.raises(BrokenRule, match=rule):
        encoder.run()


def test_a_graph_kept_after_an_address_changed_gives_old_results(board: Callable[..., Board]) -> None:
    here = board()
    encoder, predictor = here.open("vision_encoder"), here.open("predictor")
    encoder.inputs["pixels"][:, :, 0] = 1
    for engine in (encoder, predictor):
        engine.run()
        engine.wait()
    alone = predictor.outputs["embedding"].copy()
    predictor.__class__ = KeepsItsGraph
    predictor.bind("visual_tokens", encoder.buffers["visual_tokens"])
    predictor.run()
    predictor.wait()
    np.testing.assert_array_equal(predictor.outputs["embedding"], alone)


def test_a_buffer_that_was_freed_while_it_is_bound_is_noticed(board: Callable[..., Board]) -> None:
    here = board()
    for ran in (False, True):
        encoder = here.open("vision_encoder")
        if ran:
            encoder.run()
            encoder.wait()
        here.card.free(replace(encoder.buffers["visual_tokens"]))
        with pytest.raises(BrokenRule, match="nothing is allocated"):
            encoder.run()
            encoder.wait()


def test_pageable_inputs_are_noticed(board: Callable[..., Board]) -> None:
    encoder = board().open("vision_encoder")
    encoder.inputs["pixels"] = encoder.inputs["pixels"].copy()
    with pytest.raises(BrokenRule, match="pageable"):
        encoder.run()


def test_a_thread_that_does_not_enter_is_noticed(board: Callable[..., Board], monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = board().open("vision_encoder")
    encoder.run()
    monkeypatch.setattr(adapter.Session, "enter", lambda self: None)
    noticed: list[str] = []

    def work() -> None:
        with pytest.raises(BrokenRule, match="not current in this thread"):
            encoder.run()
        noticed.append("yes")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert noticed


def test_two_streams_are_in_no_order(board: Callable[..., Board]) -> None:
    here = board()
    encoder = here.open("vision_encoder")
    predictor = here.open("predictor", inputs_from={"visual_tokens": encoder})
    predictor.stream = adapter.session().text_stream
    results = []
    for value in (1, -1):
        encoder.inputs["pixels"][:, :, 0] = value
        encoder.run()
        predictor.run()
        predictor.wait()
        results.append(predictor.outputs["embedding"].copy())
        encoder.wait()
    np.testing.assert_array_equal(*results)  # of a clip that the encoder had not yet looked at


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
