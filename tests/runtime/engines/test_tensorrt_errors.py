"""What the TensorRT adapter reports when the card, the runtime or an engine file fails."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.engines import fake_runtime
from tests.runtime.engines.board import Board
from vlj_edge.errors import VljEdgeError
from vlj_edge.runtime.engines.tensorrt import engine as adapter
from vlj_edge.runtime.model import Model


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
    with pytest.raises(VljEdgeError, match=r"\d MB.*\d MB"):
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
    monkeypatch.setattr(fake_runtime.FakeContext, "execute_async_v3", lambda self, stream: False)
    adapter.session().errors.append("Cask kernel\nfailed")
    with pytest.raises(VljEdgeError, match="Cask kernel failed"):
        encoder.run()


@pytest.mark.parametrize("broken", [False, True], ids=["the capture goes on", "it is broken by that"])
def test_an_engine_that_fails_in_a_capture_says_why_and_leaves_none_open(
    board: Callable[..., Board], monkeypatch: pytest.MonkeyPatch, broken: bool
) -> None:
    here = board()
    encoder = here.open("vision_encoder")
    real = fake_runtime.FakeContext.execute_async_v3

    def failing(context: fake_runtime.FakeContext, stream: int) -> bool:
        if not here.card.recordings:
            return real(context, stream)
        adapter.session().errors.append("operation not permitted when stream is capturing")
        return False

    monkeypatch.setattr(fake_runtime.FakeContext, "execute_async_v3", failing)
    here.card.capture_fails = broken
    with pytest.raises(VljEdgeError, match="operation not permitted when stream is capturing"):
        encoder.run()
    assert not here.card.recordings


def test_bytes_that_are_no_engine(board: Callable[..., Board], capfd: pytest.CaptureFixture[str]) -> None:
    here = board()
    here.trt.plans.clear()
    with pytest.raises(VljEdgeError, match="Serialization assertion magicTag failed"):
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
    with pytest.raises(VljEdgeError, match=f"{message}.*vlj-edge build"):
        here.open("predictor")
    assert not here.card.counted["allocate"]


def test_a_changed_engine_is_not_deserialised(board: Callable[..., Board]) -> None:
    here = board()
    [path] = here.bundle.glob("engines/*/predictor-*.engine")
    path.write_bytes(b"plan of decoder")
    with pytest.raises(VljEdgeError, match="vlj-edge build"):
        here.open("predictor")


@pytest.mark.parametrize("built_for", [{"sm": "sm89"}, {"version": "9.9.8"}, {"package": "tensorrt_rtx"}])
def test_an_engine_for_another_card_or_version_is_not_found(
    board: Callable[..., Board], built_for: dict[str, str]
) -> None:
    here = board(**built_for)
    with pytest.raises(VljEdgeError, match=r"predictor .*fake-card-3060-sm86-tensorrt-9\.9\.9.*vlj-edge build"):
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
    monkeypatch.setattr(fake_runtime.FakeContext, "set_tensor_address", lambda self, name, address: name != "query_ids")
    with pytest.raises(VljEdgeError, match="query_ids"):
        here.open("predictor")


def test_an_engine_without_room_to_run_says_why(board: Callable[..., Board], monkeypatch: pytest.MonkeyPatch) -> None:
    here = board()
    monkeypatch.setattr(fake_runtime.FakeEngine, "create_execution_context", lambda self: None)
    adapter.session().errors.append("OutOfMemory\n(no further information)")
    with pytest.raises(VljEdgeError, match="OutOfMemory"):
        here.open("predictor")


def test_tensorrt_that_does_not_start_is_an_error(board: Callable[..., Board], monkeypatch: pytest.MonkeyPatch) -> None:
    here = board()
    monkeypatch.setattr(here.trt, "Runtime", lambda log: None)
    with pytest.raises(VljEdgeError, match=r"tensorrt 9\.9\.9 .*--backend onnxruntime"):
        here.open("predictor")
