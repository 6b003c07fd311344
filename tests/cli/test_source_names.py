"""Names of files and folders that could be something else, and sources on stdin, in every command."""

from __future__ import annotations

import io
import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from tests.cli.command import COMMAND, run_here
from vlj_edge import VljEdgeError, open_source
from vlj_edge.cli.part_options import PartOptions
from vlj_edge.cli.source_names import name_and_uri, parse_sources
from vlj_edge.runtime.library.moments import real_path, stored_path
from vlj_edge.runtime.service.settings import SourceSettings, by_name

NAMES = [
    os.fsdecode(b"caf\xe9 \xff.mp4"),
    "Stra\N{LATIN SMALL LETTER SHARP S}e.mp4",
    "door=clip.mp4",
    "pipe:size=4x4",
    "-?size=4x4",
    "2024",
    "rtsp:",
    "a?b#c%41[bold].mp4",
    "two\nlines.mp4",
    "it's.mp4",
]
OPTIONS: dict[str, tuple[str, ...]] = {
    "narrate": ("--json",),
    "embed": (),
    "classify": ("--labels", "red,green", "--json"),
    "ask": ("colour?", "--choices", "red,green", "--json"),
    "index": ("--store", "store"),
    "profile": (),
}


@pytest.fixture
def clip(make_video: Callable[..., Path]) -> bytes:
    return make_video([((0, 0, 255), 1), ((0, 255, 0), 1)]).read_bytes()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("verb", ["narrate", "embed", "classify", "ask", "index"])
def test_what_exists_is_read_whatever_its_name(
    verb: str, name: str, clip: bytes, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(clip)
    done = run_here(verb, name, *OPTIONS[verb], "--bundle", tiny_bundle)
    assert done.returncode == 0, done.stderr
    assert verb == "index" or [json.loads(line) for line in done.stdout.splitlines()]


def test_names_come_out_of_several_sources_as_valid_text(clip: bytes, tiny_bundle: Path, tmp_path: Path) -> None:
    names = [os.fsdecode(b"\xff.mp4"), os.fsdecode(b"\xfe.mp4"), "two\nlines.mp4"]
    for name in names:
        (tmp_path / name).write_bytes(clip)
    log = tmp_path / "log.jsonl"
    for options in (("--json", "--log", log), ()):
        arguments = ["narrate", *(os.fsencode(name) for name in names), *options, "--bundle", tiny_bundle]
        environment = os.environ | {"PYTHONUTF8": "1"}
        done = subprocess.run([*COMMAND, *arguments], cwd=tmp_path, env=environment, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        lines = done.stdout.decode().splitlines()  # strict
        shown = {r"\xff.mp4", r"\xfe.mp4", "two\nlines.mp4" if options else "two lines.mp4"}
        if options:
            assert {
                json.loads(line).get("source", json.loads(line).get("totals", {}).get("source")) for line in lines
            } == shown
            assert {json.loads(line)["source"] for line in log.read_text("utf-8").splitlines()} <= shown
        else:
            assert {line.partition(": ")[0] for line in lines[-3:]} == shown


@pytest.mark.slow
def test_a_store_finds_a_file_again_whose_name_is_no_text(clip: bytes, tiny_bundle: Path, tmp_path: Path) -> None:
    name = b"caf\xe9.mp4"
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / os.fsdecode(name)).write_bytes(clip)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("LC_", "LANG"))} | {"LC_ALL": "C"}

    def call(*arguments: str | bytes) -> subprocess.CompletedProcess[bytes]:
        command = [*COMMAND, *arguments, "--store", "store", "--bundle", str(tiny_bundle)]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return done

    call("index", "videos")
    assert b"0 videos" in call("index", "videos").stderr  # it is known, and has not changed
    [moment] = map(
        json.loads, call("search", "red", "--top", "1", "--json", "--thumbnails", "pictures").stdout.splitlines()
    )
    assert os.fsencode(moment["file"]).endswith(name) and Path(moment["file"]).exists()
    assert len(list((tmp_path / "pictures").iterdir())) == 1
    assert b"caf\\xe9.mp4" in call("search", "red", "--top", "1").stdout
    (tmp_path / "videos" / "another.mp4").write_bytes(clip)
    call("index", "videos")
    call("search", "--similar", b"videos/" + name + b"@1")
    (tmp_path / "videos" / os.fsdecode(name)).unlink()
    assert b"forgotten" in call("index", "videos", "--prune").stderr


@pytest.mark.parametrize("path", ["/a/b.mp4", "/\udce9/\udcff", "//x41/\udc80b", "/a//xe9"[:2] + "xe9"])
def test_any_path_can_be_stored(path: str) -> None:
    assert real_path(stored_path(path)) == path and stored_path(path).encode()
    assert stored_path("/caf\N{LATIN SMALL LETTER E WITH ACUTE}") == "/caf\N{LATIN SMALL LETTER E WITH ACUTE}"


@pytest.mark.parametrize(
    "argument, name, uri",
    [
        ("door=rtsp://cam/1?a=b", "door", "rtsp://cam/1?a=b"),
        ("rtsp://me:secret@cam/1?a=b", "rtsp://***@cam/1?a=***", "rtsp://me:secret@cam/1?a=b"),
        ("door=pipe:size=4x4", "door", "pipe:size=4x4"),
        ("pipe:size=4x4", "pipe:size=4x4", "pipe:size=4x4"),
        ("there=is.mp4", "there=is.mp4", "there=is.mp4"),
        ("not=is.mp4", "not", "is.mp4"),
        ("2024=0", "2024", "0"),
        ("front/door=rtsp://cam/1", "front/door", "rtsp://cam/1"),
        ("v1.2=there=is.mp4", "v1.2", "there=is.mp4"),
        ("what?=there=is.mp4", "what?", "there=is.mp4"),
        ("a/b=c.mp4", "a/b=c.mp4", "a/b=c.mp4"),
        ("./a=there=is.mp4", "./a=there=is.mp4", "./a=there=is.mp4"),
        ("http://cam/?u=rtsp://b", "http://cam/?u=***", "http://cam/?u=rtsp://b"),
        ("gst:rtspsrc location=rtsp://b ! x", "gst:rtspsrc location=rtsp://b ! x", "gst:rtspsrc location=rtsp://b ! x"),
    ],
)
def test_names_of_sources(argument: str, name: str, uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there=is.mp4").touch()
    assert name_and_uri(argument) == (name, uri)


def test_cameras_that_differ_only_in_a_secret_have_names_of_their_own() -> None:
    addresses = ("rtsp://me:a@nvr/live?channel=1", "rtsp://me:a@nvr/live?channel=2", "rtsp://me:b@nvr/live?channel=1")
    names = [settings.name for settings in parse_sources(addresses, None, PartOptions())]
    assert names == [f"rtsp://***@nvr/live?channel=***{number}" for number in ("", " 2", " 3")]
    with pytest.raises(VljEdgeError, match="two sources"):
        by_name(parse_sources(addresses[:1] * 2, None, PartOptions()))
    with pytest.raises(VljEdgeError, match="two sources"):
        by_name(parse_sources(("a=1", "a=2"), None, PartOptions()))


def test_a_file_whose_name_looks_like_a_password_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("12:30@home.mp4").touch()
    assert name_and_uri("12:30@home.mp4") == ("12:30@home.mp4", "12:30@home.mp4")
    assert name_and_uri("me:hunter2@cam/1")[0] == "***@cam/1"
    assert SourceSettings("front:left@house", "0").name == "front:left@house"


def test_a_name_that_is_an_address_loses_its_secrets() -> None:
    settings = SourceSettings("rtsp://me:hunter2@cam/1?pw=hunter2", "0")
    assert settings.name == "rtsp://***@cam/1?pw=***" == replace(settings, loop=True).name


@pytest.mark.parametrize("folder", ["2024", "0", "http:/cam", "-"])
def test_a_folder_may_be_called_like_a_camera(folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path(folder).mkdir(parents=True)
    PIL.Image.new("RGB", (8, 6), (9, 9, 9)).save(Path(folder) / "1.png")
    given = {"http:/cam": "http://cam", "-": "./-"}.get(folder, folder)
    for source in (given, Path(folder), f"file://{tmp_path}/{folder}", f"file:{folder}"):
        assert len(list(open_source(source))) == 1


def test_a_file_uri_may_encode_any_byte(tmp_path: Path, clip: bytes) -> None:
    for name in (b"a\xff?#%b.mp4", b"50%25.mp4"):
        (tmp_path / os.fsdecode(name)).write_bytes(clip)
        encoded = "".join(f"%{byte:02x}" for byte in name)
        for uri in (
            f"file://{tmp_path}/{encoded}",
            f"file://localhost{tmp_path}/{encoded}",
            f"file:{tmp_path}/{encoded}",
        ):
            with open_source(uri) as source:
                assert next(iter(source)).time == 0
    with pytest.raises(VljEdgeError, match="does not exist"):
        open_source(f"file://{tmp_path}/%00")


def piped(data: bytes, *arguments: str | Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*COMMAND, *map(str, arguments)], input=data, capture_output=True, check=False)


@pytest.mark.parametrize("uri", ["-?size=64x48&rate=4&format=rgb24", "pipe:size=64x48,rate=4,format=rgb24"])
@pytest.mark.parametrize("verb", ["narrate", "embed", "classify", "ask", "profile"])
def test_raw_frames_on_stdin_are_a_source_of_every_command(verb: str, uri: str, tiny_bundle: Path) -> None:
    source = (tiny_bundle, uri) if verb == "profile" else (uri, *OPTIONS[verb], "--bundle", tiny_bundle)
    done = piped(np.full((40, 48, 64, 3), 99, np.uint8).tobytes(), verb, *source)
    assert done.returncode == 0, done.stderr.decode()
    assert b"Traceback" not in done.stderr and done.stdout


@pytest.mark.parametrize("uri", ["-?size=64&rate=4", "pipe:colour=red", "-?"])
def test_wrong_options_of_stdin_are_one_line(uri: str, tiny_bundle: Path) -> None:
    done = piped(b"", "narrate", uri, "--bundle", tiny_bundle)
    assert done.returncode == (1 if uri == "-?" else 2), "an empty pipe is no wrong call"
    assert len(done.stderr.decode().splitlines()) == 1


def test_a_video_and_jpegs_come_through_pipes(clip: bytes, tiny_bundle: Path) -> None:
    done = piped(clip, "narrate", "--json", "--every-window", "-", "--bundle", tiny_bundle)
    assert done.returncode == 0 and json.loads(done.stdout.splitlines()[-1])["totals"][
        "video_seconds"
    ] == pytest.approx(2)
    file = io.BytesIO()
    PIL.Image.new("RGB", (64, 48)).save(file, "JPEG")
    done = piped(file.getvalue() * 40, "narrate", "--json", "-", "--fps", "20", "--bundle", tiny_bundle)
    assert done.returncode == 0 and json.loads(done.stdout.splitlines()[-1])["totals"][
        "video_seconds"
    ] == pytest.approx(2)
    assert done.stderr == b"" or b"a second" not in done.stderr


def test_a_file_that_looks_like_an_option_is_pointed_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clip: bytes
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("-clip.mp4").write_bytes(clip)
    done = run_here("narrate", "-clip.mp4")
    assert done.returncode == 2 and "./-clip.mp4" in done.stderr


def test_folders_of_videos_print_names_as_one_line_of_valid_text(
    clip: bytes, tiny_bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "videos").mkdir()
    names = [os.fsdecode(b"caf\xe9.mp4"), "two\nlines.mp4"]
    for name in names:
        (tmp_path / "videos" / name).write_bytes(clip)
    videos, common = tmp_path / "videos", ("--bundle", tiny_bundle)
    plain = run_here("classify", videos, "--labels", "red,green", *common).stdout.encode().decode()
    assert len(plain.splitlines()) == 2 and r"caf\xe9.mp4" in plain
    lines = run_here("classify", videos, "--labels", "red,green", "--json", *common).stdout.splitlines()
    assert {Path(json.loads(line)["source"]) for line in lines} == {videos / name for name in names}
    done = run_here("narrate", videos, "--out", tmp_path / "texts", *common)
    assert done.returncode == 0 and len(done.stdout.encode().splitlines()) == 2
    assert {path.stem for path in (tmp_path / "texts").iterdir()} == {Path(name).stem for name in names}
