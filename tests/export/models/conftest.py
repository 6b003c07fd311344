"""Fixtures of the tests with models of full size."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch


@pytest.fixture
def seeded_and_freed(tmp_path: Path) -> Iterator[None]:
    torch.manual_seed(0)
    with torch.no_grad():
        yield
    shutil.rmtree(tmp_path)  # pytest keeps those of three runs, and these are gigabytes
    gc.collect()  # two models of full size at a time is enough
