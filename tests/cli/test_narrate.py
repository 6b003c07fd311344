from __future__ import annotations

import json
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.cli.command import COMMAND, after_backend_warning, error_of, json_lines, run_here, start, vlj_edge
from tests.cli.conftest import write_video
from tests.cli.srt import Cue, read_srt
from tests.runtime.tiny_bundle import BLACK, BLUE, RED
from vlj_edge import BudgetSettings, Totals, open_source
from vlj_edge.cli.narrate_output import format_totals
from vlj_edge.runtime.video.cameras.opencv import import_opencv

TEXTS = ["a red screen", "blue", "green light glows"]  # of the video, in order


def test_narrate_says_what_changes_and_ends_with_totals(video: Path, tiny_bundle: Path) -> None:
    done = vlj_edge("narrate", video, "--bundle", tiny_bundle)
    *spoken, totals = done.stdout.splitlines()
    assert (done.returncode, after_backend_warning(done.stderr)) == (0, "")
    assert [line.split(" s  ")[1] for line in spoken] == TEXTS
    times = [float(line.split(" s  ")[0]) for line in spoken]
    assert times == sorted(times)
    assert totals.startswith("17 windows, ")
    for part in ("encoder runs", "3 decoder runs", "fewer than decoding every window", "9.0 s of video", "real time"):
        assert part in totals


@pytest.mark.parametrize(("tokens", "kept", "said"), [(0, 0, ""), (400, 400, ""), (400, 180, " on 45% of the tokens")])
def test_the_totals_say_which_share_of_the_tokens_was_computed(tokens: int, kept: int, said: str) -> None:
    totals = Totals(windows=9, encoder_runs=4, tokens=tokens, tokens_kept=kept, wall_seconds=1.0)
    with closing(open_source("examples/media/demo.mp4")) as source:
        line = format_totals("demo", totals, source, False, BudgetSettings())
    assert f"4 encoder runs{said}, 0 decoder runs" in line


def test_verbose_prints_the_backend_and_the_reason(video: Path, tiny_bundle: Path) -> None:
    done = vlj_edge("narrate", video, "--bundle", tiny_bundle, "--backend", "onnxruntime", "-v")
    assert done.returncode == 0 and done.stderr.startswith("backend: ONNX Runtime on the CPU (")


def test_every_json_line_that_speaks_has_start_end_and_text(video: Path, tiny_bundle: Path) -> None:
    done = run_here("narrate", video, "--bundle", tiny_bundle, "--json")
    assert (done.returncode, after_backend_warning(done.stderr)) == (0, "")
    spoken, totals = json_lines(done.stdout)
    assert [line["text"] for line in spoken] == TEXTS
    assert all(0 <= line["start"] < line["end"] <= 9.5 for line in spoken)
    assert (totals["narrations"], totals["windows"], totals["video_seconds"]) == (3, 17, 9.0)


def test_every_window_decodes_every_window(video: Path, tiny_bundle: Path) -> None:
    spoken, totals = json_lines(run_here("narrate", video, "--bundle", tiny_bundle, "--json", "--every-window").stdout)
    assert totals["windows"] == totals["encoder_runs"] == totals["decoder_runs"] == len(spoken) == 17
    assert totals["decodes_saved"] == 1.0


def test_the_gates_save_work_on_a_video_with_still_scenes(video: Path, tiny_bundle: Path) -> None:
    _, totals = json_lines(run_here("narrate", video, "--bundle", tiny_bundle, "--json").stdout)
    assert totals["decoder_runs"] <= totals["encoder_runs"] < totals["windows"]


def test_subtitles_say_the_same_at_the_same_times(video: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    srt = tmp_path / "colours.srt"
    done = run_here("narrate", video, "--bundle", tiny_bundle, "--json", "--srt", srt)
    spoken, totals = json_lines(done.stdout)
    begins = [line["event_start"] for line in spoken]
    ends = [*begins[1:], totals["video_seconds"]]
    assert all(line["event_start"] <= (line["start"] + line["end"]) / 2 for line in spoken)
    assert read_srt(srt) == [Cue(*cue) for cue in zip(begins, ends, TEXTS, strict=True)]
    assert [(line["event_start"], line["event_end"]) for line in spoken] == list(zip(begins, ends, strict=True))


def test_subtitles_replace_those_of_the_last_run(video: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    srt = tmp_path / "colours.srt"
    srt.write_text("1\n00:00:00,000 --> 09:00:00,000\nlast week's\n\n" * 100)
    run_here("narrate", video, "--bundle", tiny_bundle, "--srt", srt)
    assert [cue.text for cue in read_srt(srt)] == TEXTS


def test_a_folder_of_images_is_narrated(tiny_bundle: Path, tmp_path: Path) -> None:
    import numpy as np

    for index in range(16):
        colour = RED if index < 8 else BLUE
        assert import_opencv().imwrite(str(tmp_path / f"{index}.png"), np.full((48, 64, 3), colour, np.uint8))
    spoken, _ = json_lines(run_here("narrate", tmp_path, "--bundle", tiny_bundle, "--json").stdout)
    assert [line["text"] for line in spoken] == ["a red screen", "blue"]


def test_a_video_without_anything_to_say_still_has_totals(tiny_bundle: Path, tmp_path: Path) -> None:
    black = write_video(tmp_path / "black.avi", [(BLACK, 2)])
    done = run_here("narrate", black, "--bundle", tiny_bundle, "--json", "--srt", tmp_path / "black.srt")
    spoken, totals = json_lines(done.stdout)
    assert (done.returncode, spoken, totals["windows"]) == (0, [], 3)
    assert read_srt(tmp_path / "black.srt") == []


@pytest.mark.parametrize("empty", [("--query", " "), ("--query=",), ("--log", ""), ("",)])
def test_an_empty_argument_is_refused(empty: tuple[str, ...], video: Path, tiny_bundle: Path) -> None:
    done = run_here("narrate", video, "--bundle", tiny_bundle, *empty)
    named = empty[0].rstrip("=") or "an argument"
    assert (done.returncode, done.stdout) == (2, "") and f"{named} is empty" in done.stderr


# --- stopped in the middle


@pytest.mark.parametrize(
    ("form", "stop"), [("plain", signal.SIGINT), ("json", signal.SIGINT), ("json", signal.SIGTERM)]
)
def test_ctrl_c_ends_with_totals_and_130(
    form: str, stop: signal.Signals, long_video: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    srt = tmp_path / "long.srt"
    options = ["--json"] if form == "json" else []
    running = start("narrate", long_video, "--bundle", tiny_bundle, "--every-window", "--srt", srt, *options)
    assert running.stdout is not None and running.stderr is not None
    first = running.stdout.readline()
    assert "a red screen" in first
    running.send_signal(stop)
    # not communicate(), which reads past what readline() has buffered
    rest, errors = running.stdout.read(), running.stderr.read()
    assert running.wait(timeout=60) == 130
    assert after_backend_warning(errors).strip() == ""
    *spoken, totals = (first + rest).splitlines()
    texts = [json.loads(line)["text"] if form == "json" else line.partition(" s ")[2].strip() for line in spoken]
    assert {*texts} <= {*TEXTS, ""}, "a window between two colours has no text"
    assert "totals" in totals if form == "json" else " windows, " in totals
    said = [text for text in texts if text]
    cues = [cue.text for cue in read_srt(srt)]
    assert said[: len(cues)] == cues
    assert len(said) - len(cues) <= 2, "only the text that was on its way, and the one that it ends, may be missing"


def test_windows_without_a_text_make_no_subtitle(tiny_bundle: Path, tmp_path: Path) -> None:
    dark = write_video(tmp_path / "dark.avi", [(RED, 2), (BLACK, 2), (RED, 2)])
    srt = tmp_path / "dark.srt"
    done = run_here("narrate", dark, "--bundle", tiny_bundle, "--every-window", "--srt", srt, "--json")
    spoken, _ = json_lines(done.stdout)
    texts = [line["text"] for line in spoken]
    assert "" in texts
    assert [cue.text for cue in read_srt(srt)] == [text for text in texts if text]


def test_a_reader_that_leaves_causes_no_traceback(long_video: Path, tiny_bundle: Path) -> None:
    running = start("narrate", long_video, "--bundle", tiny_bundle, "--every-window")
    assert running.stdout is not None and running.stderr is not None
    assert "a red screen" in running.stdout.readline()
    running.stdout.close()  # | head -1
    assert after_backend_warning(running.stderr.read()) == ""
    assert running.wait(timeout=60) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full")
def test_a_full_disk_under_stdout_is_one_line(video: Path, tiny_bundle: Path) -> None:
    with open("/dev/full", "w") as full:
        command = [*COMMAND, "narrate", str(video), "--bundle", str(tiny_bundle)]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert "No space left on device" in error_of(done)


@pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full")
def test_a_full_disk_under_the_subtitles_leaves_what_was_said(video: Path, tiny_bundle: Path) -> None:
    done = vlj_edge("narrate", video, "--bundle", tiny_bundle, "--srt", "/dev/full")
    assert "No space left on device" in error_of(done)
    assert "a red screen" in done.stdout


# --- what cannot be narrated


def test_a_video_that_breaks_off_is_narrated_up_to_there(video: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    content = video.read_bytes()
    broken = tmp_path / "broken.avi"
    broken.write_bytes(content[: len(content) // 2])
    done = vlj_edge("narrate", broken, "--bundle", tiny_bundle, "--json", "--srt", tmp_path / "broken.srt")
    assert str(broken) in error_of(done)
    spoken, totals = json_lines(done.stdout)
    assert [line["text"] for line in spoken] == TEXTS[: len(spoken)] != []
    assert 3 < totals["video_seconds"] < 6
    assert [cue.text for cue in read_srt(tmp_path / "broken.srt")] == TEXTS[: len(spoken)]


def test_a_missing_video_is_one_line(tiny_bundle: Path, tmp_path: Path) -> None:
    done = run_here("narrate", tmp_path / "none.mp4", "--bundle", tiny_bundle)
    assert str(tmp_path / "none.mp4") in error_of(done)
    assert done.stdout == ""


def test_an_empty_video_is_one_line(tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    assert "empty.mp4" in error_of(vlj_edge("narrate", tmp_path / "empty.mp4", "--bundle", tiny_bundle))


@pytest.mark.parametrize("length", [100, 4000])
def test_the_first_bytes_of_a_video_are_one_line(length: int, video: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.avi").write_bytes(video.read_bytes()[:length])
    assert "cannot be read" in error_of(vlj_edge("narrate", tmp_path / "cut.avi", "--bundle", tiny_bundle))


def test_a_text_file_is_one_line(tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.mp4").write_text("not a video at all\n" * 100)
    assert "cannot be read" in error_of(vlj_edge("narrate", tmp_path / "notes.mp4", "--bundle", tiny_bundle))


def test_sound_only_is_one_line(sound: Path, tiny_bundle: Path) -> None:
    assert str(sound) in error_of(vlj_edge("narrate", sound, "--bundle", tiny_bundle))


def test_a_folder_without_images_is_one_line(tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    assert "images" in error_of(run_here("narrate", tmp_path, "--bundle", tiny_bundle))


def test_a_folder_with_a_damaged_image_is_one_line(tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert "0.png" in error_of(vlj_edge("narrate", tmp_path, "--bundle", tiny_bundle))


@pytest.mark.parametrize("camera", ["97", "/dev/video97", "v4l2:///dev/video97"])
def test_a_camera_that_is_not_there_is_one_line(camera: str, tiny_bundle: Path) -> None:
    done = run_here("narrate", camera, "--bundle", tiny_bundle)
    assert "plugged in" in error_of(done)


def test_a_password_in_a_source_is_not_repeated(tiny_bundle: Path) -> None:
    done = run_here("narrate", "rtsp://admin:hunter2@cam.local/live", "--bundle", tiny_bundle)
    assert "rtsp://***@cam.local/live" in error_of(done)
    assert "hunter2" not in done.stderr


def test_a_line_break_in_a_path_is_still_one_line(tiny_bundle: Path) -> None:
    assert "no such" in error_of(run_here("narrate", "no\nsuch", "--bundle", tiny_bundle))


def test_subtitles_that_cannot_be_written_are_one_line(video: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    done = run_here("narrate", video, "--bundle", tiny_bundle, "--srt", tmp_path / "no" / "folder.srt")
    assert str(tmp_path / "no" / "folder.srt") in error_of(done)
    assert done.stdout == ""


def test_subtitles_do_not_overwrite_the_video(tiny_bundle: Path, tmp_path: Path) -> None:
    video = write_video(tmp_path / "video.avi", [(RED, 2)])
    before = video.read_bytes()
    done = run_here("narrate", video, "--bundle", tiny_bundle, "--srt", video)
    assert "--srt" in error_of(done, 2)
    assert video.read_bytes() == before
