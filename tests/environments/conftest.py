from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.environments.environment import run, uv

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def dist(shared_by_workers: Callable[[str, Callable[[Path], Any]], Path]) -> Path:
    """A folder with the sdist and the wheel that was built from it."""
    return shared_by_workers("dist", lambda out: run(uv(), "build", "-q", "-o", out, REPOSITORY))


@pytest.fixture(scope="session")
def sdist(dist: Path) -> Path:
    [found] = dist.glob("*.tar.gz")
    return found
