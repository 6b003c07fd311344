"""Paths near a model's directory: the error names that directory, or what to do."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.cli.command import error_of, run_here

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def refused(path: Path, *options: str | Path) -> str:
    out = path.parent / "out"
    line = error_of(run_here("export", path, *options, "--out", out))
    assert not out.exists()
    return line


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A repository in the hub's cache with two snapshots, of which the one that sorts last is no longer main."""
    folder = tmp_path / "models--owner--name"
    for commit in (COMMIT, "f" * 40):
        (folder / "snapshots" / commit).mkdir(parents=True)
        (folder / "snapshots" / commit / "config.json").write_text("{}")
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(COMMIT)
    return folder


def test_a_repository_in_the_cache_names_its_snapshot(cache: Path) -> None:
    assert refused(cache).endswith(str(cache / "snapshots" / COMMIT))
    assert refused(cache, "--vision-encoder", cache).endswith(str(cache / "snapshots" / COMMIT))
    shutil.rmtree(cache / "refs")
    assert str(cache / "snapshots") in refused(cache)
    assert str(cache / "snapshots" / COMMIT) in refused(cache / "snapshots")


def test_a_part_in_the_cache_names_its_snapshot(cache: Path, tmp_path: Path) -> None:
    for option in ("--vision-encoder", "--predictor", "--text-encoder", "--decoder"):
        done = run_here("export", option, cache, "--out", tmp_path / "out")
        assert str(cache / "snapshots" / COMMIT) in error_of(done), option


def test_a_file_of_a_model_names_its_directory(cache: Path) -> None:
    snapshot = cache / "snapshots" / COMMIT
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        (snapshot / name).touch()
        assert refused(snapshot / name).endswith(f"name {snapshot}")


def test_weights_alone_and_a_folder_without_config_say_what_is_missing(tmp_path: Path) -> None:
    for path in (tmp_path / "folder", tmp_path / "model.safetensors"):
        (tmp_path / "folder").mkdir(exist_ok=True)
        (tmp_path / "folder" / "model.safetensors").touch()
        path.touch()
        line = refused(path)
        assert str(path) in line and "config.json" in line and "OWNER/NAME" in line


def test_a_checkpoint_that_is_given_as_a_bundle_is_to_be_exported(cache: Path) -> None:
    snapshot = cache / "snapshots" / COMMIT
    line = error_of(run_here("narrate", "examples/media/demo.mp4", "--bundle", snapshot))
    assert f"vlj-edge export {snapshot}" in line
