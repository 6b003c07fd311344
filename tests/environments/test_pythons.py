"""The other Python versions that pyproject.toml allows, with the newest versions of what a device installs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.environments.environment import ALL_TESTS, Environment, find_python

VERSIONS = [version for version in ("3.10", "3.11", "3.12", "3.13") if version != "{}.{}".format(*sys.version_info[:2])]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("version", VERSIONS)
def test_what_needs_no_torch_works(version: str, sdist: Path, tmp_path: Path) -> None:
    if (python := find_python(version)) is None:
        pytest.skip(f"there is no Python {version} here")
    # Python 3.10 has an older PyAV than the others, which read the corpus as the tests of this environment do.
    less = [] if version == "3.10" else ["--ignore", "tests/runtime/video/test_corpus.py"]
    found = Environment(python, sdist, tmp_path).test([*ALL_TESTS, *less])
    assert found["passed"] > 1000
