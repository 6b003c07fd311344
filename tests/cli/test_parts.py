"""--start, --end, --duration and --fps; several videos and folders of them; progress."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
from pathlib import Path

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cli.command import COMMAND, Done, error_of, refused
from tests.cli.conftest import write_video
from tests.runtime.tiny_bundle import BLUE, GREEN, RED
from vlj_edge.cli.part_options import Seconds


def run_here(*arguments: str | Path) -> Done:
    return refused(*arguments)  # runs any call in this process


def windows_of(done: Done) -> list[tuple[float, float]]:
    assert done.returncode == 0, done.stderr
    return [(item["start"], item["end"]) for item in map(json.loads, done.stdout.splitlines())]


@pytest.mark.parametrize(
    "options",
    [
        ("--start", "2", "--end", "7"),
        ("--start", "0:02", "--duration", "5s"),
        ("--start", "2000ms", "--duration", "00:00:05.0"),
    ],
)
def test_a_part_has_the_windows_of_the_whole_that_lie_in_it(
    options: tuple[str, ...], video: Path, tiny_bundle: Path
) -> None:
    whole = windows_of(run_here("embed", video, "--bundle", tiny_bundle))
    part = windows_of(run_here("embed", video, "--bundle", tiny_bundle, *options))
    assert part == [(start, end) for start, end in whole if start >= 2 and end <= 7] and part


def test_texts_of_a_part_have_the_times_of_the_video(video: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    srt = tmp_path / "part.srt"
    done = run_here("narrate", video, "--bundle", tiny_bundle, "--start", "3", "--end", "9", "--srt", srt, "--json")
    *narrations, last = map(json.loads, done.stdout.splitlines())
    assert [n["start"] for n in narrations] and min(n["start"] for n in narrations) >= 3
    assert last["totals"]["video_seconds"] == pytest.approx(6.0) and last["totals"]["video_end"] == pytest.approx(9.0)
    times = re.findall(r"00:00:(\d+),(\d+) --> 00:00:(\d+),(\d+)", srt.read_text())
    assert int(times[0][0]) >= 3 and int(times[-1][2]) == 9


@pytest.mark.parametrize(
    ("command", "more"),
    [
        ("narrate", ()),
        ("embed", ()),
        ("classify", ("--labels", "red,blue")),
        ("ask", ("what?", "--choices", "red,blue")),
    ],
)
def test_every_command_with_a_source_takes_a_part(
    command: str, more: tuple[str, ...], video: Path, tiny_bundle: Path
) -> None:
    call = (command, video, *more, "--bundle", tiny_bundle)
    assert run_here(*call, "--start", "1", "--duration", "4", "--fps", "10").returncode == 0
    for wrong in (
        ("--start", "-1"),
        ("--start", "1:99"),
        ("--end", "0"),
        ("--start", "5", "--end", "4"),
        ("--end", "4", "--duration", "3"),
        ("--fps", "0"),
        ("--fps", "8", "--image-times", "exif"),
    ):
        assert run_here(*call, *wrong).returncode == 2, wrong
    beyond = run_here(*call, "--start", "1:00")
    assert beyond.returncode == 1 and "9.0 s" in error_of(beyond)


def test_fps_sets_the_pace_of_the_pictures(video: Path, tiny_bundle: Path) -> None:
    assert windows_of(run_here("embed", video, "--bundle", tiny_bundle, "--fps", "20"))[-1][1] == pytest.approx(4.5)


@given(st.integers(0, 99), st.integers(0, 59), st.integers(0, 59), st.integers(0, 999))
def test_times_are_read_as_a_clock_shows_them(hours: int, minutes: int, seconds: int, thousandths: int) -> None:
    convert = Seconds().convert
    expected = pytest.approx(hours * 3600 + minutes * 60 + seconds + thousandths / 1000)
    assert convert(f"{hours}:{minutes:02}:{seconds:02}.{thousandths:03}", None, None) == expected
    assert convert(f"{3600 * hours + 60 * minutes + seconds}.{thousandths:03}", None, None) == expected
    assert convert(f"{minutes}:{seconds:02}", None, None) == 60 * minutes + seconds
    assert convert(f"{minutes}min", None, None) == 60 * minutes


@pytest.mark.parametrize("wrong", ["", "-1", "1:60", "60:00:00:00", "nan", "inf", "1e9", "soon", "1 2", "1:2:3:4"])
def test_what_is_no_time_is_refused(wrong: str) -> None:
    with pytest.raises(click.BadParameter):
        Seconds().convert(wrong, None, None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    for name in ("day/a.avi", "day/a.mkv", "night/a.avi"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_video(folder / name, [(RED, 3), (BLUE, 3)])
    (folder / "night" / "notes.txt").write_text("no video")
    return folder


def test_a_folder_is_narrated_into_a_folder(folder: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "texts"
    call = ("narrate", folder, "--bundle", tiny_bundle, "--out", out)
    done = run_here(*call)
    assert done.returncode == 0, done.stderr
    names = ["day/a.avi.srt", "day/a.mkv.srt", "night/a.srt"]
    assert sorted(done.stdout.splitlines()) == [str(out / name) for name in names]
    one = tmp_path / "one.srt"
    run_here("narrate", folder / "night/a.avi", "--bundle", tiny_bundle, "--srt", one)
    assert (out / "night/a.srt").read_text() == one.read_text() and one.stat().st_size > 20
    (out / "night/a.srt").write_text("mine")
    kept = run_here(*call)
    assert kept.returncode == 0 and (out / "night/a.srt").read_text() == "mine" and "--overwrite" in kept.stderr
    assert run_here(*call, "--overwrite").returncode == 0
    assert (out / "night/a.srt").read_text() == one.read_text()


@pytest.mark.parametrize("kind", ["vtt", "json", "txt"])
def test_the_other_forms_of_texts(kind: str, folder: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    video, out = folder / "night/a.avi", tmp_path / "texts"
    assert run_here("narrate", video, "--bundle", tiny_bundle, "--out", out, "--format", kind).returncode == 0
    text = (out / f"a.{kind}").read_text()
    printed = run_here("narrate", video, "--bundle", tiny_bundle, *(["--json"] if kind == "json" else [])).stdout
    if kind == "vtt":
        assert text.startswith("WEBVTT\n\n00:00:") and text.count("-->") == printed.count(" s  ")
    else:
        assert text.splitlines() == printed.splitlines()[:-1]


def test_a_bad_video_is_named_and_the_others_are_done(folder: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    (folder / "night" / "b.mp4").write_text("no video at all")
    done = run_here("narrate", folder, "--bundle", tiny_bundle, "--out", tmp_path / "texts")
    assert done.returncode == 1 and len(done.stdout.splitlines()) == 3
    assert "b.mp4" in done.stderr and "1 of 4" in done.stderr.splitlines()[-1]


def test_a_folder_of_videos_needs_out(folder: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    done = run_here("narrate", folder, "--bundle", tiny_bundle)
    assert done.returncode == 2 and "--out" in done.stderr
    mixed = run_here("narrate", folder, "--bundle", tiny_bundle, "--out", tmp_path / "o", "--srt", tmp_path / "x.srt")
    assert mixed.returncode == 2


@pytest.mark.parametrize("as_json", [False, True])
def test_classify_gives_a_line_a_video(as_json: bool, folder: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    write_video(tmp_path / "green.avi", [(GREEN, 3)])
    (tmp_path / "bad.avi").write_text("no video")
    more = ["--json"] if as_json else []
    done = run_here(
        "classify", folder, tmp_path / "green.avi", tmp_path / "bad.avi", "--labels", "red,green",
        "--bundle", tiny_bundle, *more,
    )  # fmt: skip
    assert done.returncode == 1 and "bad.avi" in done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 4
    names = [json.loads(line)["source"] if as_json else line.split("  ")[0] for line in lines]
    assert names[-1] == str(tmp_path / "green.avi") and names[0] == str(folder / "day/a.avi")


def test_progress_is_shown_in_a_terminal_only(tiny_bundle: Path, long_video: Path, tmp_path: Path) -> None:
    command = [*COMMAND, "narrate", str(long_video), "--bundle", str(tiny_bundle), "--every-window"]
    piped = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "left" not in piped.stderr
    ours, theirs = pty.openpty()
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=theirs, check=True, env={**os.environ, "TERM": "xterm"}
        )
        os.close(theirs)
        shown = b""
        while True:
            try:
                data = os.read(ours, 65536)
            except OSError:  # the other end is closed
                break
            shown += data
    finally:
        os.close(ours)
    assert b"of 12:30" in shown and b"left" in shown
    assert [line for line in done.stdout.decode().splitlines() if " s  " in line] == [
        line for line in piped.stdout.splitlines() if " s  " in line
    ]
    assert shutil.which("stty") is None or b"\r" in shown


def test_a_warning_about_one_of_several_videos_names_it(tiny_bundle: Path, tmp_path: Path) -> None:
    for name in ("one.avi", "two.avi"):
        write_video(tmp_path / name, [(RED, 4), (BLUE, 4)])
    call = ("classify", tmp_path, "--labels", "red,blue", "--bundle", tiny_bundle, "--fps", "2")
    warnings = [line for line in run_here(*call).stderr.splitlines() if "2 frames a second" in line]
    assert len(warnings) == 2 and "one.avi" in warnings[0] and "two.avi" in warnings[1]


def test_several_sources_are_files_and_folders_of_videos(tiny_bundle: Path, tmp_path: Path) -> None:
    write_video(tmp_path / "one.avi", [(RED, 2)])
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "1.png").write_bytes(b"")
    for other in ("rtsp://me:secret@127.0.0.1:1/x", "-", "0", str(tmp_path / "images")):
        line = error_of(run_here("classify", tmp_path / "one.avi", other, "--labels", "a,b", "--bundle", tiny_bundle))
        assert other.rpartition("@")[2] in line and "secret" not in line
        texts = tmp_path / "texts"
        assert run_here("narrate", tmp_path / "one.avi", other, "--out", texts, "--bundle", tiny_bundle).returncode == 1
        assert not texts.exists()


def test_options_that_would_do_nothing_are_refused(tmp_path: Path) -> None:
    for call in (
        ("narrate", "a.mp4", "--format", "vtt"),
        ("narrate", "a.mp4", "--overwrite"),
        ("narrate", "a.mp4", "--out", tmp_path, "--json"),
        ("profile", "--duration", "4"),
    ):
        assert run_here(*call).returncode == 2, call
