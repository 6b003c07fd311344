"""The lowest versions that pyproject.toml allows, of all that a device installs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.environments.environment import TESTS_OF_PACKAGES, Environment, find_python


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("version", ["3.10", "{}.{}".format(*sys.version_info[:2])])
def test_the_lowest_versions_work(version: str, sdist: Path, tmp_path: Path) -> None:
    if (python := find_python(version)) is None:
        pytest.skip(f"there is no Python {version} here")
    found = Environment(python, sdist, tmp_path, lowest=True).test(TESTS_OF_PACKAGES)
    assert found["passed"] > 350
