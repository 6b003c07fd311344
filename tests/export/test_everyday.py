"""`--captions everyday`: the packaged sentences, and every family with a text tower that says them."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import run_here
from tests.export.families.checkpoints import write_clip, write_siglip, write_videoprism
from vlj_edge.bundle import read_manifest
from vlj_edge.text_list import EVERYDAY, read_texts

_PROGRAM = Path(__file__).parents[2] / "examples" / "everyday"


def test_each_is_one_plain_sentence() -> None:
    lines = EVERYDAY.read_text(encoding="ascii").splitlines()
    assert 1500 <= len(lines) <= 3000
    assert read_texts(str(EVERYDAY), "caption") == lines  # no blank lines, comments, double spaces or repetitions
    for line in lines:
        assert 3 <= len(line.split()) <= 12, line
        assert line[-1].isalnum() and not set(line) & set("{}|,.;\t"), line
    for scene in ("kitchen", "office", "shop", "street", "garden", "workshop", " dog ", " car ", " rains ", "empty"):
        assert any(scene in f" {line} " for line in lines), scene


def test_they_are_what_the_templates_give() -> None:
    made = runpy.run_path(str(_PROGRAM / "write.py"))["sentences"]((_PROGRAM / "grammar.txt").read_text("ascii"))
    assert made == EVERYDAY.read_text(encoding="ascii").splitlines()


@pytest.mark.parametrize(
    "write", [write_clip, *(pytest.param(each, marks=pytest.mark.slow) for each in (write_siglip, write_videoprism))]
)
def test_every_family_with_a_text_tower(
    write: Callable[[Path], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path("weights"))
    Path("everyday").write_text("the word means the packaged sentences, not this file\n", encoding="utf-8")
    done = run_here("export", "weights", "--captions", "everyday", "--out", "out", "--precision", "fp32")
    assert done.returncode == 0, done.stderr
    captions = read_manifest(Path("out")).captions
    assert captions is not None and Path("out", captions).read_bytes() == EVERYDAY.read_bytes()


def test_a_file_of_that_name_is_dot_slash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("everyday").write_text("# no captions\n", encoding="utf-8")
    done = run_here("export", "--captions", "./everyday")
    assert done.returncode == 1 and "everyday holds no caption" in done.stderr, done.stderr
