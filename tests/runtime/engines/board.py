"""A machine with a fake card: a bundle with built engines, and what stands in for TensorRT and CUDA."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.runtime.engines.fake_card import FakeCard
from tests.runtime.engines.fake_runtime import FakeTensorRT
from vlj_edge.bundle import Manifest
from vlj_edge.runtime.engines.base import open_engine
from vlj_edge.runtime.model import Model


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
