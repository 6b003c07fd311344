"""The wheel and the sdist that `make dist` builds."""

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
    for name in (
        "captions/everyday.txt",
        "nano/manifest.json",
        "pages/live.html",
        "py.typed",
        "export/nano/model.safetensors",
    ):
        assert f"vlj_edge/{name}" in names


def test_the_wheel_has_every_module(dist: Path) -> None:
    [wheel] = dist.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if name.endswith(".py")}
    root = Path(__file__).parents[2]
    folders = {"vlj_edge": root / "vlj_edge", "vlj_edge/export": root / "export", "vlj_edge/runtime": root / "runtime"}
    modules = {f"{name}/{path.relative_to(at)}" for name, at in folders.items() for path in at.rglob("*.py")}
    assert inside == modules, "pyproject.toml lists every package"


def test_the_sdist_has_what_the_tests_and_the_docs_need(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    root = Path(__file__).parents[2]
    for folder in ("tests", "examples", "docs", "results", "benchmarks", "export", "runtime", "vlj_edge"):
        for path in (root / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith("."):
                assert str(path.relative_to(root)) in inside
    assert inside >= {"Makefile", "README.md", "LICENSE", "NOTICE", "pyproject.toml"}
