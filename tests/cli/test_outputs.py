"""No command overwrites what it reads, and what it writes is there whole or not at all."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from tests.cli.command import COMMAND, error_of, run_here
from tests.cli.conftest import write_video
from tests.runtime.tiny_bundle import RED
from vlj_edge.bundle import nano_bundle
from vlj_edge.cli.group import cli
from vlj_edge.cli.outputs import OutputPath, refuse_overwriting_inputs
from vlj_edge.errors import VljEdgeError

# What may name a file or folder that is read, besides options of the type click.Path: by name of the parameter.
_TEXTS_THAT_NAME_FILES = ("source", "sources", "label_list", "uri", "store", "similar", "bundle")


def parameters(kind: Callable[[click.Parameter], bool]) -> Iterator[tuple[str, click.Parameter]]:
    for name, command in cli.commands.items():
        yield from ((name, parameter) for parameter in command.params if kind(parameter))


def is_output(parameter: click.Parameter) -> bool:
    return isinstance(parameter.type, OutputPath)


def is_output_file(parameter: click.Parameter) -> bool:
    return isinstance(parameter.type, OutputPath) and parameter.type.file_okay


def is_input(parameter: click.Parameter) -> bool:
    path = isinstance(parameter.type, click.Path) and not is_output(parameter)
    return path or parameter.name in _TEXTS_THAT_NAME_FILES


PAIRS = [
    (name, output, each)
    for name, output in parameters(is_output_file)
    for each in cli.commands[name].params
    if is_input(each)
]


def arguments(name: str, given: dict[str, str], folder: Path) -> list[str]:
    """Return the arguments of a call in which these parameters have values, and others only where they must."""
    other = folder / "other.mp4"
    other.write_bytes(b"another input")
    options, positional = [], []
    for parameter in cli.commands[name].params:
        value = given.get(parameter.name or "")
        if isinstance(parameter, click.Argument):
            if value is not None or parameter.required or name == "profile":
                positional.append(value or str(other))
        elif value is not None:
            options += [parameter.opts[0], value]
        elif parameter.required:
            options += [parameter.opts[0], str(folder / "unused")]
    return [name, *options, *positional]


def test_the_table_has_every_kind_of_command() -> None:
    written = {(name, parameter.name) for name, parameter in parameters(is_output)}
    assert {
        ("narrate", "srt"),
        ("narrate", "vtt"),
        ("narrate", "record"),
        ("narrate", "log"),
        ("narrate", "out"),
        ("embed", "out"),
        ("embed", "ring"),
        ("labels", "out"),
        ("profile", "html"),
        ("profile", "trace_to"),
        ("search", "thumbnails"),
        ("search", "clips"),
        ("serve", "log"),
        ("serve", "profile"),
        ("serve", "learned"),
        ("export", "out"),
    } <= written
    assert len(PAIRS) > 30


def test_an_option_that_names_an_output_says_so_by_its_type() -> None:
    words = ("write ", "append ", "save", "make", "keep the newest")
    for name, parameter in parameters(lambda each: isinstance(each, click.Option) and not is_output(each)):
        assert isinstance(parameter, click.Option)
        wants_path = isinstance(parameter.type, click.Path)
        assert not (wants_path and (parameter.help or "").lower().startswith(words)), (name, parameter.name)


@pytest.mark.parametrize("spelling", ["same", "hard link", "link", "other path"])
@pytest.mark.parametrize(
    ("name", "output", "read"), PAIRS, ids=lambda part: part if isinstance(part, str) else part.name
)
def test_no_output_overwrites_an_input(
    name: str, output: click.Parameter, read: click.Parameter, spelling: str, tmp_path: Path
) -> None:
    source, path = inputs_for(read, tmp_path)
    written = {
        "same": lambda: path,
        "hard link": lambda: linked(path, tmp_path / "hard.mp4", os.link),
        "link": lambda: linked(path, tmp_path / "soft.mp4", os.symlink),
        "other path": lambda: tmp_path / "sub" / ".." / path.relative_to(tmp_path),
    }[spelling]()
    (tmp_path / "sub").mkdir()
    before = path.read_bytes()
    done = run_here(*arguments(name, {str(read.name): source, str(output.name): str(written)}, tmp_path))
    assert output.opts[0] in error_of(done, 2) and "would overwrite" in done.stderr
    assert path.read_bytes() == before


def inputs_for(read: click.Parameter, folder: Path) -> tuple[str, Path]:
    """Return a value for an option, and the file that is read then."""
    if read.name in ("bundle", "engines", "store", "uri"):
        whole = folder / "whole"
        whole.mkdir()
        (whole / "moments.lance").mkdir()
        (whole / "manifest.json").write_text("{}")
        return str(whole), whole / "manifest.json"
    path = folder / "v.mp4"
    path.write_bytes(b"precious")
    return (f"{path}@1:00" if read.name == "similar" else str(path)), path


def linked(path: Path, link: Path, make: Callable[[Path, Path], None]) -> Path:
    make(path, link)
    return link


@pytest.mark.parametrize(
    "source",
    [
        "file://{path}",
        "file:{path}",
        "file://localhost{path}",
        "file://{folder}/v%2Emp4",
        "cam={path}",
        "cam=file://{path}",
        "{folder}",
        "{folder}/*.mp4",
        "{folder}/**/v.*",
        "gst:filesrc location={path} ! decodebin",
        'gst:filesrc location="{path}" ! decodebin',
    ],
)
@pytest.mark.parametrize(
    "command",
    [("serve", "--log"), ("serve", "--profile"), ("serve", "--learned"), ("embed", "--out"), ("embed", "--ring")],
)
def test_every_spelling_of_a_source_is_seen(source: str, command: tuple[str, str], tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    path.write_bytes(b"precious")
    name, option = command
    done = run_here(name, source.format(path=path, folder=tmp_path), option, path)
    assert "would overwrite" in error_of(done, 2) and path.read_bytes() == b"precious"


def test_the_files_of_a_log_that_begins_anew_count(tmp_path: Path) -> None:
    path = tmp_path / "texts.3"
    path.write_bytes(b"precious")
    done = run_here("narrate", path, "--log", tmp_path / "texts", "--log-bytes", "100")
    assert "texts.3" in error_of(done, 2) and "would overwrite" in done.stderr


def test_a_film_without_a_suffix_is_known_by_its_real_name(tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    path.write_bytes(b"precious")
    assert "would overwrite" in error_of(run_here("narrate", path, "--record", tmp_path / "v"), 2)


@pytest.mark.parametrize("option", ["--out", "--ring"])
def test_the_built_in_bundle_is_no_place_for_an_output(option: str, tmp_path: Path) -> None:
    path = nano_bundle() / "manifest.json"
    before = path.read_bytes()
    done = run_here("embed", tmp_path / "v.mp4", option, path)
    assert "would overwrite" in error_of(done, 2) and path.read_bytes() == before


@pytest.mark.parametrize("redirected", ["stdin", "stdout"])
def test_redirections_count(redirected: str, tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    path.write_bytes(b"precious")
    call = ["embed", "-", "--out", str(path)] if redirected == "stdin" else ["embed", str(path)]
    with path.open("rb" if redirected == "stdin" else "ab") as file:
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, redirected: file}
        done = subprocess.run([*COMMAND, *call], **streams, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2 and "would overwrite" in done.stderr and path.read_bytes() == b"precious"


@pytest.mark.parametrize("name", ["log", "profile", "learned"])
@pytest.mark.parametrize("read", ["config", "source", "token_file"])
def test_a_configuration_file_is_checked_too(
    name: str, read: str, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("fastapi")
    monkeypatch.delattr("vlj_edge.cli.serve.serve_until_stopped")  # it would not return
    config, source, token = (tmp_path / each for each in ("serve.toml", "v.mp4", "token"))
    token.write_text("0123456789abcdef")
    source.write_bytes(b"precious")
    path = {"config": config, "source": source, "token_file": token}[read]
    config.write_text(
        f'bundle = "{tiny_bundle}"\ntoken_file = "{token}"\n{name} = "{path}"\n'
        f'[[source]]\nname = "a"\nuri = "{source}"\n'
    )
    before = path.read_bytes()
    done = run_here("serve", "--config", config, "--port", "0")
    assert "would overwrite" in error_of(done, 2) and path.read_bytes() == before


@pytest.mark.parametrize("same", ["x", "./x", "link"])
def test_two_outputs_are_two_files(same: str, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "x")
    done = run_here("narrate", tmp_path / "v.mp4", "--srt", tmp_path / "x", "--vtt", tmp_path / same)
    assert done.returncode == 2 and "--srt and --vtt are the same file" in done.stderr


def test_texts_of_several_videos_replace_none_of_them(tiny_bundle: Path, tmp_path: Path) -> None:
    videos = [write_video(tmp_path / f"{name}.avi", [(RED, 2)]) for name in "ab"]
    before = videos[0].read_bytes()
    (tmp_path / "a.srt").symlink_to(videos[0])
    done = run_here("narrate", *videos, "--bundle", tiny_bundle, "--out", tmp_path, "--overwrite")
    assert done.returncode == 1 and "would overwrite" in done.stderr and videos[0].read_bytes() == before
    assert "a red screen" in (tmp_path / "b.srt").read_text()


@pytest.mark.parametrize("what", ["weights", "captions", "calibrate_on"])
def test_a_bundle_does_not_replace_what_it_is_made_of(what: str, tiny_weights: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    out = tmp_path / "bundle"
    shutil.copytree(tiny_weights, out)
    (out / "manifest.json").write_text("{}")
    (out / "captions").write_text("a robot\n")
    weights = out if what == "weights" else tiny_weights
    options = {"captions": ["--captions"], "calibrate_on": ["--precision", "int8", "--calibrate-on"]}.get(what)
    call = [weights, *([*options, out / "captions"] if options else []), "--out", out, "--overwrite"]
    assert "would replace" in error_of(run_here("export", *call), 2) and (out / "captions").exists()


@pytest.mark.parametrize(
    "call",
    [
        ("narrate", "VIDEO", "--srt"),
        ("narrate", "VIDEO", "--record"),
        ("narrate", "VIDEO", "--log"),
        ("calibrate", "VIDEO", "--html"),
        ("embed", "VIDEO", "--out"),
        ("labels", "a,b", "--out"),
        ("profile", "VIDEO", "--trace"),
    ],
    ids=lambda call: f"{call[0]} {call[2]}",
)
def test_a_folder_that_is_not_there_is_said_before_the_work(call: tuple[str, ...], tmp_path: Path) -> None:
    missing = tmp_path / "nope" / "x"
    done = run_here(*(str(tmp_path / "no-video.mp4") if word == "VIDEO" else word for word in call), missing)
    assert str(missing.parent) in error_of(done) and "no-video" not in done.stderr and done.stdout == ""


@pytest.mark.parametrize("text", ["what happens " * 30, "a," * 200, "what happens? " * 30], ids=["words", "list", "?"])
def test_a_text_may_be_longer_than_a_file_name(text: str, tmp_path: Path) -> None:
    (tmp_path / "input.npz").touch()
    refuse_overwriting_inputs([("--out", tmp_path / "input.npz")], [text])
    with pytest.raises(VljEdgeError, match=r"input\.npz"):
        refuse_overwriting_inputs([("--out", tmp_path / "input.npz")], [text, str(tmp_path / "input.npz")])
