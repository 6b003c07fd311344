"""Weights shared by the export tests."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights directory of the preset TINY."""
    from tests.export.tiny_weights import write_tiny_weights  # imports torch, without which these tests are skipped

    return write_tiny_weights(tmp_path_factory.mktemp("weights") / "tiny")
