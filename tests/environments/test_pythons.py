"""The other Python versions that pyproject.toml allows, with the newest versions of what a device installs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.environments.environment import ALL_TESTS, TESTS_OF_PACKAGES, TESTS_OF_PYTHON, Environment, find_python

VERSIONS = [version for version in ("3.10", "3.11", "3.12", "3.13") if version != "{}.{}".format(*sys.version_info[:2])]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("version", VERSIONS)
def test_what_needs_no_torch_works(version: str, sdist: Path, tmp_path: Path) -> None:
    if (python := find_python(version)) is None:
        pytest.skip(f"there is no Python {version} here")
    # All is tested in the oldest version, which has older packages than the others, and what Python versions differ in
    # also in the newest. A version between two that are tested takes the newest packages, and uses each.
    tests = {VERSIONS[0]: ALL_TESTS, VERSIONS[-1]: TESTS_OF_PYTHON}.get(version, TESTS_OF_PACKAGES)
    found = Environment(python, sdist, tmp_path).test(tests)
    assert found["passed"] > {ALL_TESTS: 3000, TESTS_OF_PYTHON: 700, TESTS_OF_PACKAGES: 350}[tests]
