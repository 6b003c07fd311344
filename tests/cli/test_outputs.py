"""No command overwrites what it reads, and what it writes is there whole or not at all."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import pytest

from tests.cli.command import COMMAND, error_of, run_here, vlj_edge
from tests.cli.conftest import write_video
from tests.runtime.films import pictures
from tests.runtime.tiny_bundle import BLUE, RED
from vlj_edge.bundle import nano_bundle
from vlj_edge.cli.group import cli
from vlj_edge.cli.outputs import OutputPath, results_file
from vlj_edge.errors import SourceBrokeOff, VljEdgeError

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
    assert output.opts[0] in error_of(done) and "would overwrite" in done.stderr
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
    "command", [("serve", "--log"), ("serve", "--profile"), ("embed", "--out"), ("embed", "--ring")]
)
def test_every_spelling_of_a_source_is_seen(source: str, command: tuple[str, str], tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    path.write_bytes(b"precious")
    name, option = command
    done = run_here(name, source.format(path=path, folder=tmp_path), option, path)
    assert "would overwrite" in error_of(done) and path.read_bytes() == b"precious"


def test_the_files_of_a_log_that_begins_anew_count(tmp_path: Path) -> None:
    path = tmp_path / "texts.3"
    path.write_bytes(b"precious")
    done = run_here("narrate", path, "--log", tmp_path / "texts", "--log-bytes", "100")
    assert "texts.3" in error_of(done) and "would overwrite" in done.stderr


def test_a_film_without_a_suffix_is_known_by_its_real_name(tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    path.write_bytes(b"precious")
    assert "would overwrite" in error_of(run_here("narrate", path, "--record", tmp_path / "v"))


@pytest.mark.parametrize("option", ["--out", "--ring"])
def test_the_built_in_bundle_is_no_place_for_an_output(option: str, tmp_path: Path) -> None:
    path = nano_bundle() / "manifest.json"
    before = path.read_bytes()
    done = run_here("embed", tmp_path / "v.mp4", option, path)
    assert "would overwrite" in error_of(done) and path.read_bytes() == before


@pytest.mark.parametrize("redirected", ["stdin", "stdout"])
def test_redirections_count(redirected: str, tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    path.write_bytes(b"precious")
    call = ["embed", "-", "--out", str(path)] if redirected == "stdin" else ["embed", str(path)]
    with path.open("rb" if redirected == "stdin" else "ab") as file:
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, redirected: file}
        done = subprocess.run([*COMMAND, *call], **streams, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1 and "would overwrite" in done.stderr and path.read_bytes() == b"precious"


@pytest.mark.parametrize("name", ["log", "profile"])
@pytest.mark.parametrize("read", ["config", "source", "token_file"])
def test_a_configuration_file_is_checked_too(name: str, read: str, tiny_bundle: Path, tmp_path: Path) -> None:
    pytest.importorskip("fastapi")
    config, source, token = (tmp_path / each for each in ("serve.toml", "v.mp4", "token"))
    token.write_text("0123456789abcdef")
    source.write_bytes(b"precious")
    path = {"config": config, "source": source, "token_file": token}[read]
    config.write_text(
        f'bundle = "{tiny_bundle}"\ntoken_file = "{token}"\n{name} = "{path}"\n'
        f'[[source]]\nname = "a"\nuri = "{source}"\n'
    )
    before = path.read_bytes()
    done = vlj_edge("serve", "--config", config, "--port", "0")
    assert "would overwrite" in error_of(done) and path.read_bytes() == before


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
    assert "would replace" in error_of(run_here("export", *call)) and (out / "captions").exists()


# --- whole or not at all


FILES = {
    "srt": ("narrate", "--srt"),
    "vtt": ("narrate", "--vtt"),
    "record": ("narrate", "--record"),
    "json": ("embed", "--out"),
    "npz": ("embed", "--format", "npz", "--out"),
    "html": ("profile", "--html"),
    "trace": ("profile", "--trace"),
}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("clip") / "clip.avi", [(RED, 3), (BLUE, 3)])


def call(kind: str, clip: Path, bundle: Path, path: Path | str) -> list[str]:
    if kind == "labels":
        return ["labels", "a red screen,a blue screen", "--bundle", str(bundle), "--out", str(path)]
    name, *options = FILES[kind]
    source = [str(bundle), str(clip)] if name == "profile" else [str(clip), "--bundle", str(bundle)]
    return [name, *source, *options, str(path)]


KINDS = [*FILES, "labels"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_replaced_keeps_its_permissions_and_a_link_stays_one(
    kind: str, clip: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    path, link = tmp_path / "real.mp4", tmp_path / "link.mp4"
    path.write_bytes(b"before")
    path.chmod(0o640)
    link.symlink_to("real.mp4")
    assert run_here(*call(kind, clip, tiny_bundle, link)).returncode == 0
    assert path.read_bytes() != b"before" and stat.S_IMODE(path.stat().st_mode) == 0o640
    assert sorted(os.listdir(tmp_path)) == ["link.mp4", "real.mp4"] and link.is_symlink()


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_there_stays_when_the_disk_is_full(kind: str, clip: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    """A limit on the size of files fails in the same calls as a full disk."""
    path = tmp_path / "out.mp4"
    path.write_bytes(b"before")
    with smallest_files():
        done = subprocess.run([*COMMAND, *call(kind, clip, tiny_bundle, path)], capture_output=True, text=True)
    assert done.returncode == 1 and "out.mp4" in done.stderr.splitlines()[-1] and "Traceback" not in done.stderr
    assert path.read_bytes() == b"before" and os.listdir(tmp_path) == ["out.mp4"]


@contextmanager
def smallest_files() -> Iterator[None]:
    """Let files that are written from now on, here and in child processes, have 40 bytes at most."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_there_stays_when_the_source_cannot_be_read(kind: str, tiny_bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    path.write_bytes(b"before")
    source = tmp_path / "none.avi"
    source.write_bytes(b"no video")
    arguments = call(kind, source, tiny_bundle, path)
    if kind == "labels":
        arguments[1] = "a red screen,a red screen"
    assert run_here(*arguments).returncode == 1
    assert path.read_bytes() == b"before" and sorted(os.listdir(tmp_path)) == ["none.avi", "out.mp4"]


@pytest.mark.parametrize("kind", ["srt", "vtt", "json", "npz"])
def test_what_could_be_read_of_a_damaged_video_is_there(
    kind: str, clip: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    half = tmp_path / "half.avi"
    half.write_bytes(clip.read_bytes()[: clip.stat().st_size * 3 // 4])
    done = run_here(*call(kind, half, tiny_bundle, tmp_path / "out"))
    assert done.returncode == 1 and (tmp_path / "out").stat().st_size > 40


@pytest.mark.parametrize("live", [True, False])
def test_what_a_live_source_gives_is_seen_at_once(live: bool, tmp_path: Path) -> None:
    path = tmp_path / "texts"
    path.write_text("before")
    with results_file(path, live) as stream:
        stream.write("caf\u00e9 \udcff\n")
        stream.flush()
        assert path.read_text("utf-8") == ("caf\u00e9 \\udcff\n" if live else "before")
    assert path.read_text("utf-8") == "caf\u00e9 \\udcff\n"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SourceBrokeOff("it broke off"), VljEdgeError("it failed")])
def test_what_was_found_until_ctrl_c_or_a_damage_stays(error: BaseException, tmp_path: Path) -> None:
    path = tmp_path / "texts"
    path.write_text("before")
    with pytest.raises(type(error)), results_file(path, live=False) as stream:
        stream.write("found")
        raise error
    assert path.read_text() == ("before" if type(error) is VljEdgeError else "found")


@pytest.mark.parametrize("kind", KINDS)
def test_a_pipe_gets_all_of_it(kind: str, clip: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    pipe, read = tmp_path / "pipe", list[bytes]()
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    done = run_here(*call(kind, clip, tiny_bundle, pipe))
    reader.join()
    assert done.returncode == 0, done.stderr
    assert len(read[0]) > 40 and stat.S_ISFIFO(pipe.stat().st_mode) and os.listdir(tmp_path) == ["pipe"]
    if kind == "record":
        (tmp_path / "film.mp4").write_bytes(read[0])
        assert len(pictures(tmp_path / "film.mp4")) == 60


@pytest.mark.parametrize("kind", KINDS)
def test_devices_stay_devices(kind: str, clip: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    null = tmp_path / "null"
    null.symlink_to("/dev/null")
    for path in ("/dev/null", null):
        assert run_here(*call(kind, clip, tiny_bundle, path)).returncode == 0
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode) and null.is_symlink()


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_stdout_by_its_name_goes_where_stdout_goes(name: str, clip: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    done = vlj_edge(*call("vtt", clip, tiny_bundle, name))
    assert done.returncode == 0 and "WEBVTT\n\n00:" in done.stdout and done.stdout.count("WEBVTT") == 1
    path = tmp_path / "redirected"
    path.write_text("what was there\n")
    with path.open("a") as file:
        subprocess.run(
            [*COMMAND, *call("vtt", clip, tiny_bundle, name)], stdout=file, check=True, stderr=subprocess.PIPE
        )
    assert path.read_text().startswith("what was there\n") and path.read_text().count("WEBVTT") == 1


def test_a_file_that_may_not_be_written_to_is_not_replaced(clip: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write to everything")
    path = tmp_path / "out"
    path.write_bytes(b"before")
    path.chmod(0o444)
    done = run_here(*call("json", clip, tiny_bundle, path))
    assert done.returncode == 2 and "out" in done.stderr and path.read_bytes() == b"before"
