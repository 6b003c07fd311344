"""Every command that runs a model takes --backend, --engines, --threads and --key-file, and they reach the model."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from tests.cli.command import run_here
from vlj_edge.bundle.signature import KEY_FILE
from vlj_edge.cli.group import cli
from vlj_edge.errors import VljEdgeError
from vlj_edge.runtime.model import Model

RUNS_A_MODEL: dict[str, tuple[str, ...]] = {
    "narrate": ("narrate", "VIDEO"),
    "serve": ("serve", "a=VIDEO"),
    "embed": ("embed", "VIDEO"),
    "classify": ("classify", "VIDEO", "--labels", "red,blue"),
    "ask": ("ask", "VIDEO", "what?", "--choices", "red,blue"),
    "labels": ("labels", "red,blue", "--out", "bank.npz"),
    "index": ("index", "VIDEO", "--store", "store"),
    "search": ("search", "red", "--store", "store"),
    "alerts test": ("alerts", "test", "VIDEO", "--config", "serve.toml"),
    "verify": ("verify", "BUNDLE", "--source", "VIDEO"),
    "profile": ("profile", "BUNDLE", "VIDEO"),
    "calibrate": ("calibrate", "VIDEO"),
    "eval": ("eval", "data"),
}
WITHOUT = {
    "export": "torch runs the model",
    "models": "lists names",
    "build": "makes engines and runs none",
    "inspect": "reads the manifest",
    "tune": "finds backend and threads, and TensorRT's engines are not tuned",
}
NEEDS = {"serve": "fastapi", "verify": "polygraphy", "index": "lancedb", "search": "lancedb"}


def leaves(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        for name, each in command.commands.items():
            yield from leaves(each, (*path, name))
    else:
        yield " ".join(path), command


COMMANDS = dict(leaves(cli))


def test_every_command_runs_a_model_or_says_why_not() -> None:
    assert set(COMMANDS) == set(RUNS_A_MODEL) | set(WITHOUT)


@pytest.mark.parametrize("name", RUNS_A_MODEL)
def test_it_has_the_options(name: str) -> None:
    options = {option for each in COMMANDS[name].params for option in each.opts}
    assert {"--backend", "--engines", "--threads", "--key-file"} <= options


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """With what each Model was opened; none opens."""
    seen: list[dict[str, Any]] = []

    def refuse(
        self: Model, directory: Path, backend: str, threads: int, engines: Path, *rest: Any, **others: Any
    ) -> None:
        found = {"backend": backend, "threads": threads, "engines": engines, "key": os.environ.get(KEY_FILE)}
        seen.append(found)
        raise VljEdgeError("this is a test")

    monkeypatch.setattr(Model, "__init__", refuse)
    return seen


@pytest.fixture
def folder(tmp_path: Path, tiny_bundle: Path, video: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(KEY_FILE, raising=False)
    (tmp_path / "built").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "red").mkdir()
    (tmp_path / "data" / "red" / "video.mp4").symlink_to(video)
    (tmp_path / "serve.toml").write_text(
        '[[source]]\nname="a"\nuri="0"\n[[alert]]\nname = "red"\ntext = "a red screen"\n'
    )
    return tmp_path


@pytest.mark.parametrize("name", RUNS_A_MODEL)
def test_they_reach_the_model(
    name: str, opened: list[dict[str, Any]], folder: Path, tiny_bundle: Path, video: Path
) -> None:
    pytest.importorskip(NEEDS.get(name, "numpy"))
    words = {"VIDEO": str(video), "a=VIDEO": f"a={video}", "BUNDLE": str(tiny_bundle)}
    call = [words.get(word, word) for word in RUNS_A_MODEL[name]]
    given = ("--backend", "tensorrt", "--threads", "3", "--engines", "built", "--key-file", "some.key")
    done = run_here(*call, *given)
    assert "this is a test" in done.stderr, done.stderr
    found = opened[0]
    assert {**found, "engines": Path(found["engines"]).name} == {
        "backend": "tensorrt",
        "threads": 3,
        "engines": "built",
        "key": str(folder / "some.key"),
    }
    assert KEY_FILE not in os.environ


@pytest.mark.parametrize("name", ["serve", "alerts test"])
def test_they_stand_in_the_configuration_too(
    name: str, opened: list[dict[str, Any]], folder: Path, video: Path
) -> None:
    pytest.importorskip(NEEDS.get(name, "numpy"))
    options = {"backend": "tensorrt", "threads": 3, "engines": "built", "key_file": str(folder / "some.key")}
    (folder / "some.key").touch()
    file = folder / "serve.toml"
    lines = [f"{key} = {json.dumps(value)}" for key, value in options.items()]
    file.write_text("\n".join([*lines, file.read_text()]))
    call = ("serve", "--config", file) if name == "serve" else ("alerts", "test", video, "--config", file)
    done = run_here(*call)
    assert "this is a test" in done.stderr, done.stderr
    assert opened == [{"backend": "tensorrt", "threads": 3, "engines": Path("built"), "key": str(folder / "some.key")}]
    assert KEY_FILE not in os.environ


def test_a_cluster_chooses_for_itself(folder: Path, video: Path) -> None:
    for option in (("--threads", "2"), ("--backend", "openvino"), ("--engines", "built")):
        done = run_here("index", video, "--store", "store", "--cluster", "tcp://127.0.0.1:9", *option)
        assert done.returncode == 2 and "--cluster" in done.stderr
