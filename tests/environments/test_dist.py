"""What `make dist` builds."""

from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
MOST_BYTES = 60e6  # of the wheel


def test_the_wheel_is_small_and_has_no_tests(dist: Path) -> None:
    [wheel] = dist.glob("*.whl")
    assert wheel.stat().st_size < MOST_BYTES
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    folders = {name.partition("/")[0] for name in names}
    assert len(folders) == 2 and "vlj_edge" in folders, "the package and its .dist-info"
    for name in ("runtime/model.py", "export/bundle.py", "nano/manifest.json", "pages/live.html", "py.typed"):
        assert f"vlj_edge/{name}" in names


def test_the_sdist_has_what_the_tests_and_the_docs_need(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    root = Path(__file__).parents[2]
    for folder in ("tests", "examples", "docs", "results", "benchmarks", "export", "runtime", "vlj_edge"):
        for path in (root / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith("."):
                assert str(path.relative_to(root)) in inside
    assert inside >= {"Makefile", "README.md", "LICENSE", "NOTICE", "pyproject.toml"}
