"""The lowest versions that pyproject.toml allows, of all that a device installs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.environments.environment import TESTS_OF_PACKAGES, Environment, find_python


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_lowest_versions_work(sdist: Path, tmp_path: Path) -> None:
    python = find_python("3.10") or sys.executable
    found = Environment(python, sdist, tmp_path, lowest=True).test(TESTS_OF_PACKAGES)
    assert found["passed"] > 350
