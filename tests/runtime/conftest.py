"""Fixtures for the tests of runs on the tiny bundle."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import vlj_edge
import vlj_edge.runtime.chain as chain_module
from vlj_edge import bundle
from vlj_edge.runtime.model import Model


@pytest.fixture
def model(tiny_bundle: Path) -> Model:
    return vlj_edge.load(tiny_bundle)


@pytest.fixture
def nano() -> Iterator[Model]:
    with vlj_edge.load() as model:
        yield model


@pytest.fixture
def step_by_step(tiny_bundle: Path) -> Model:
    """Without overlap, so that it can be told how far each step has come."""
    return Model(tiny_bundle, overlap=False)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each engine has been opened."""
    count: Counter[str] = Counter()
    real = chain_module.open_engine

    def spy(directory: Path, manifest: bundle.Manifest, name: str, **options: Any) -> Any:
        count[name] += 1
        return real(directory, manifest, name, **options)

    monkeypatch.setattr(chain_module, "open_engine", spy)
    return count
