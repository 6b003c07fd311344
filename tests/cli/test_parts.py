"""--start, --end, --duration and --fps; several videos and folders of them; progress."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.cli.command import COMMAND, Done, error_of, run_here
from tests.cli.conftest import write_video
from tests.runtime.films import ffmpeg, needs_ffmpeg
from tests.runtime.tiny_bundle import BLUE, GREEN, RED
from vlj_edge.cli.batch import output_paths
from vlj_edge.cli.part_options import Seconds


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


def test_a_start_behind_the_end_says_where_the_end_is(video: Path, tiny_bundle: Path) -> None:
    for options, end in ((("--start", "20"), "9.0 s"), (("--fps", "5", "--start", "20"), "18.0 s")):
        assert end in error_of(run_here("narrate", video, "--bundle", tiny_bundle, *options))


@needs_ffmpeg
def test_a_start_behind_the_pictures_is_no_damage_where_the_sound_goes_on(
    video: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    sound = ("-f", "lavfi", "-i", "sine=d=15", "-c:v", "copy", "-c:a", "flac")
    sounding = ffmpeg(tmp_path / "sounding.mkv", "-i", str(video), *sound)
    for start in ("10", "20"):
        error = error_of(run_here("narrate", sounding, "--bundle", tiny_bundle, "--start", start))
        assert "9.0 s" in error and "damaged" not in error


def test_answers_about_a_part_say_which(video: Path, tiny_bundle: Path) -> None:
    done = run_here("ask", video, "what?", "--choices", "red,blue", "--bundle", tiny_bundle, "--start", "3", "--json")
    answer = json.loads(done.stdout)
    assert (answer["start"], answer["end"]) == (3.0, 9.0)


def test_of_several_sources_the_same_part_is_narrated(video: Path, tiny_bundle: Path) -> None:
    done = run_here(
        "narrate", f"a={video}", f"b={video}", "--bundle", tiny_bundle, "--start", "3", "--end", "7", "--json"
    )
    assert done.returncode == 0, done.stderr
    events = [line for line in map(json.loads, done.stdout.splitlines()) if "text" in line]
    assert {event["source"] for event in events} == {"a", "b"}
    assert all(3 <= event["start"] < event["end"] <= 7 for event in events)


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


@pytest.mark.parametrize(
    "wrong",
    ["", "-1", "1:60", "60:00:00:00", "nan", "inf", "1e9", "soon", "1 2", "1:2:3:4", "9" * 330, "9" * 330 + ":00:00"],
)
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
        written, lines = (re.sub(r'"clock": [\d.]+|"id": "\w+"', "", each).splitlines() for each in (text, printed))
        assert written == lines[:-1]


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


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["x.mp4", "y.mov"], ["x.srt", "y.srt"]),
        (["x.mp4", "x.mov"], ["x.mp4.srt", "x.mov.srt"]),
        (["a/x.mp4", "b/x.mov"], ["a/x.srt", "b/x.srt"]),
        (["x.mp4", "x.mov", "x.mp4.mkv"], ["x.mp4.srt", "x.mov.srt", "x.mp4.mkv.srt"]),
        (["X.mp4", "x.mov"], ["X.mp4.srt", "x.mov.srt"]),  # one file where case does not count
        (["x", "x.mp4"], ["x.srt", "x.mp4.srt"]),
    ],
)
def test_every_video_has_a_file_of_its_own(names: list[str], expected: list[str], tmp_path: Path) -> None:
    videos = [tmp_path / name for name in names]
    assert list(output_paths(videos, Path("out"), "srt").values()) == [Path("out") / name for name in expected]


def test_a_folder_of_images_is_one_of_the_videos(folder: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    images = tmp_path / "images.v2"
    images.mkdir()
    for number in range(12):
        Image.new("RGB", (64, 48), (255, 0, 0)).save(images / f"{number}.png")
    out = tmp_path / "texts"
    done = run_here("narrate", images, folder / "night", "--bundle", tiny_bundle, "--out", out)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in out.rglob("*.srt")} == {"images.v2.srt", "a.srt"}
    both = run_here("classify", images, folder / "night", "--labels", "red,green", "--bundle", tiny_bundle)
    assert [line.split("  ")[0] for line in both.stdout.splitlines()] == [str(images), str(folder / "night/a.avi")]


def test_a_pattern_that_the_shell_did_not_expand(folder: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    (folder / "day" / "b[1].avi").write_bytes((folder / "day" / "a.avi").read_bytes())
    pattern, out = folder / "*" / "a.avi", tmp_path / "texts"
    assert run_here("narrate", pattern, "--bundle", tiny_bundle, "--out", out).returncode == 0
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*.srt")) == ["day/a.srt", "night/a.srt"]
    without = run_here("narrate", pattern, "--bundle", tiny_bundle)
    assert without.returncode == 2 and "--out" in without.stderr
    labels = ("--labels", "red,green", "--bundle", tiny_bundle)
    assert len(run_here("classify", folder / "**" / "*.avi", *labels).stdout.splitlines()) == 3
    assert run_here("classify", folder / "day" / "b[1].avi", *labels).returncode == 0, "what exists is no pattern"
    assert "*.xyz" in error_of(run_here("classify", folder / "*.xyz", *labels))


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


def read_terminal(descriptor: int) -> bytes:
    """Read until the other end is closed, and close this one."""
    shown = b""
    with suppress(OSError):  # the other end is closed
        while data := os.read(descriptor, 65536):
            shown += data
    os.close(descriptor)
    return shown


def test_progress_is_shown_in_a_terminal_only(tiny_bundle: Path, long_video: Path, tmp_path: Path) -> None:
    command = [*COMMAND, "narrate", str(long_video), "--bundle", str(tiny_bundle), "--every-window"]
    piped = run_here(*command[len(COMMAND) :])
    assert piped.returncode == 0 and "left" not in piped.stderr
    ours, theirs = pty.openpty()
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=theirs, check=True, env={**os.environ, "TERM": "xterm"}
        )
        os.close(theirs)
    finally:
        shown = read_terminal(ours)
    assert b"of 12:30" in shown and b"left" in shown
    assert [line for line in done.stdout.decode().splitlines() if " s  " in line] == [
        line for line in piped.stdout.splitlines() if " s  " in line
    ]
    assert shutil.which("stty") is None or b"\r" in shown


def test_no_bar_where_stderr_is_no_terminal_though_colours_are_asked_for(tiny_bundle: Path, tmp_path: Path) -> None:
    command = [*COMMAND, "labels", "red,green", "--bundle", str(tiny_bundle), "--out", str(tmp_path / "bank.npz")]
    done = subprocess.run(command, capture_output=True, check=True, env={**os.environ, "FORCE_COLOR": "1"})
    assert b"labels" in done.stdout and b"\x1b" not in done.stderr


def test_index_shows_a_bar_and_its_results_stay_in_the_pipe(folder: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    pytest.importorskip("lancedb", exc_type=ImportError)
    for video in folder.rglob("a.*"):
        os.utime(video, (1e9, 1e9))  # long there, so that --follow takes them at once
    ours, theirs = pty.openpty()
    command = [*COMMAND, "index", str(folder), "--store", str(tmp_path / "store"), "--bundle", str(tiny_bundle)]
    environment = {**os.environ, "TERM": "xterm"}
    with subprocess.Popen(
        [*command, "--follow"], stdout=subprocess.PIPE, stderr=theirs, text=True, env=environment
    ) as running:
        os.close(theirs)
        assert running.stdout is not None
        lines = [running.stdout.readline() for _ in range(3)]
        running.send_signal(signal.SIGINT)
        shown = read_terminal(ours)
    assert sorted(line.split(":")[0] for line in lines) == sorted(str(path) for path in folder.rglob("a.*"))
    assert b"of 3 videos" in shown and b"3 videos, " in shown


def test_a_warning_about_one_of_several_videos_names_it(tiny_bundle: Path, tmp_path: Path) -> None:
    for name in ("one.avi", "two.avi"):
        write_video(tmp_path / name, [(RED, 4), (BLUE, 4)])
    call = ("classify", tmp_path, "--labels", "red,blue", "--bundle", tiny_bundle, "--fps", "2")
    warnings = [line for line in run_here(*call).stderr.splitlines() if "2 frames a second" in line]
    assert len(warnings) == 2 and "one.avi" in warnings[0] and "two.avi" in warnings[1]


def test_several_sources_are_files_and_folders_of_videos(tiny_bundle: Path, tmp_path: Path) -> None:
    write_video(tmp_path / "one.avi", [(RED, 2)])
    (tmp_path / "empty").mkdir()
    for other in ("rtsp://me:secret@127.0.0.1:1/x", "-", "0", str(tmp_path / "empty")):
        code = 1 if other.endswith("empty") else 2
        done = run_here("classify", tmp_path / "one.avi", other, "--labels", "a,b", "--bundle", tiny_bundle)
        line = error_of(done, code)
        assert other.rpartition("@")[2] in line and "secret" not in line
        texts = tmp_path / "texts"
        done = run_here("narrate", tmp_path / "one.avi", other, "--out", texts, "--bundle", tiny_bundle)
        assert done.returncode == code
        assert not texts.exists()


def test_options_that_would_do_nothing_are_refused(tmp_path: Path) -> None:
    for call in (
        ("narrate", "a.mp4", "--format", "vtt"),
        ("narrate", "a.mp4", "--overwrite"),
        ("narrate", "a.mp4", "--out", tmp_path, "--json"),
        ("profile", "--duration", "4"),
    ):
        assert run_here(*call).returncode == 2, call
