"""A checkpoint of every family, as its owners lay it out, is exported by its name from a local hub."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import run_here
from tests.export.families import checkpoints
from tests.export.hub.local_hub import COMMIT, Hub, Repository
from vlj_edge.export.hub.listing import Wanted, choose_files
from vlj_edge.export.hub.names import Name

WRITERS: dict[str, Callable[[Path], Any]] = {
    name.removeprefix("write_"): getattr(checkpoints, name) for name in dir(checkpoints) if name.startswith("write_")
}


@pytest.mark.parametrize("family", WRITERS)
def test_all_that_transformers_writes_is_fetched(family: str, tmp_path: Path) -> None:
    WRITERS[family](tmp_path)
    files = {path.name for path in tmp_path.iterdir()}
    assert set(choose_files(files, Name("someone/model"), Wanted())) == {
        file for file in files if not file.endswith((".jinja", ".md"))
    }


@pytest.mark.slow
def test_a_family_by_its_name(hub: Hub, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints.write_clip(tmp_path / "clip")
    files = {path.name: path.read_bytes() for path in (tmp_path / "clip").iterdir()}
    hub.repositories["someone/clip"] = Repository({**files, "pytorch_model.bin": b"", "modeling_clip.py": b""})
    monkeypatch.chdir(tmp_path)
    done = run_here("export", "someone/clip", "--fp16")
    assert (done.returncode, done.stderr) == (0, "")
    manifest = json.loads((tmp_path / "clip-fp16" / "manifest.json").read_text())
    [entry] = manifest["receipt"]["repositories"]
    assert (entry["repository"], entry["commit"]) == ("someone/clip", COMMIT)
    assert manifest["receipt"]["weights"]["model.safetensors"] == entry["sha256"]["model.safetensors"]
