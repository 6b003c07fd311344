"""The other Python versions that pyproject.toml allows, with the newest versions of what a device installs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.environments.environment import ALL_TESTS, TESTS_OF_PYTHON, Environment, find_python

VERSIONS = [version for version in ("3.10", "3.11", "3.12", "3.13") if version != "{}.{}".format(*sys.version_info[:2])]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("version", VERSIONS)
def test_what_needs_no_torch_works(version: str, sdist: Path, tmp_path: Path) -> None:
    if (python := find_python(version)) is None:
        pytest.skip(f"there is no Python {version} here")
    # All is tested in the oldest version, which has older packages than the others. These read videos, and do what else
    # is no matter of Python, as the environment does that runs this test: it has the same packages.
    tests = ALL_TESTS if version == VERSIONS[0] else TESTS_OF_PYTHON
    found = Environment(python, sdist, tmp_path).test(tests)
    assert found["passed"] > (3000 if tests is ALL_TESTS else 700)
