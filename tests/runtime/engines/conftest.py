"""Fixtures for the TensorRT tests: a board with a fake card, and a coloured video."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.runtime import tiny_bundle as by_hand
from tests.runtime.engines.board import Board
from tests.runtime.engines.fake_card import FakeCard
from tests.runtime.engines.fake_runtime import FakeTensorRT
from tests.runtime.tiny_bundle import BLUE, GREEN, RED
from vlj_edge.bundle import FileSeal, read_manifest
from vlj_edge.bundle.engine_cache import Receipt, RuntimeId, engine_sources, store_engine
from vlj_edge.runtime.engines.tensorrt import engine as adapter
from vlj_edge.tensorrt_package import TensorRtPackage


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Board]]:
    """board(half=False, aliased=True) -> a Board; one a test. `bundle`: another than that made by hand, which is given
    engines; `counts`: the numbers of tokens that they are built for."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))

    def make(
        half: bool = False,
        aliased: bool = True,
        memory: int = 1 << 30,
        bundle: Path | None = None,
        counts: tuple[int, ...] = (),
        **built_for: str,
    ) -> Board:
        card = FakeCard(memory)
        trt = FakeTensorRT(card, aliased, counts)
        bundle = bundle or by_hand.build(tmp_path / "bundle", half=half)
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
