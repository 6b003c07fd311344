"""The fake card notices every broken rule: adapters that break one on purpose."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from tests.runtime.engines.board import Board
from tests.runtime.engines.fake_card import BrokenRule
from vlj_edge.runtime.engines.tensorrt import engine as adapter
from vlj_edge.runtime.engines.tensorrt.device import Buffer


def test_the_real_tensorrt_ranks_its_messages_as_the_fake_does() -> None:
    real = pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    said: list[str] = []
    log = adapter._logger(real, said)
    for severity in ("INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE"):
        log.log(getattr(real.ILogger, severity), severity)
    assert said == ["INTERNAL_ERROR", "ERROR"]
    assert hasattr(real.ICudaEngine, "get_aliased_input_tensor") and hasattr(real.IExecutionContext, "execute_async_v3")
    assert "-> bool" in real.IExecutionContext.set_tensor_address.__doc__


class Careless(adapter.TrtEngine):
    """Does not wait."""

    def wait(self) -> None:
        pass


class KeepsItsGraph(adapter.TrtEngine):
    """Does not capture again after an address has changed."""

    def bind(self, name: str, buffer: Buffer) -> None:
        graph = self._current.graph
        super().bind(name, buffer)
        self._current.graph = graph


class Hasty(adapter.TrtEngine):
    """Captures what has never run."""

    def run(self) -> None:
        device = self._session.device
        device.begin_capture(self.stream)
        try:
            self._enqueue()
        finally:
            self._current.graph = device.end_capture(self.stream)


class Waits(adapter.TrtEngine):
    """Waits between two pieces of work, which cannot be captured."""

    def _enqueue(self) -> None:
        super()._enqueue()
        self._session.device.synchronise(self.stream)


class OnTheDefaultStream(adapter.TrtEngine):
    """Names no stream."""

    def _enqueue(self) -> None:
        self._current.context.execute_async_v3(0)


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
