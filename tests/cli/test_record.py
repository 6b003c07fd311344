"""narrate --record."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from tests.cli.command import run_here, vlj_edge
from tests.cli.srt import read_srt
from tests.runtime.films import ffmpeg, needs_ffmpeg, pictures, probe, times
from vlj_edge.cli.record import Recorded
from vlj_edge.results import Narration
from vlj_edge.runtime.video.recordings.files import VideoFile

COLOURS = "color=red:s=320x240:r=25:d=3[a];color=blue:s=320x240:r=25:d=3[b];color=lime:s=320x240:r=25:d=3[c]"


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds each of red, blue and green, with sound."""
    path = tmp_path_factory.mktemp("recording") / "colours.mp4"
    arguments = ("-f", "lavfi", "-i", "sine=1000:d=9", "-filter_complex", f"{COLOURS};[a][b][c]concat=n=3[v]")
    return ffmpeg(path, *arguments, "-map", "[v]", "-map", "0:a", "-pix_fmt", "yuv420p")


@needs_ffmpeg
def test_a_film_shows_what_the_subtitles_show(recording: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    film, srt = tmp_path / "film.mp4", tmp_path / "film.srt"
    done = vlj_edge("narrate", recording, "--bundle", tiny_bundle, "--record", film, "--srt", srt)
    assert done.returncode == 0 and sorted(os.listdir(tmp_path)) == ["film.mp4", "film.srt"]
    streams = probe(film)
    assert streams["video"]["codec_name"] == "h264" and streams["audio"]["codec_name"] == "aac"
    assert times(film) == pytest.approx(times(recording), abs=1e-4)
    cues = read_srt(srt)
    assert len(cues) == 3
    letters: dict[str, list[npt.NDArray[np.bool_]]] = {}
    for at, image, original in zip(times(film), pictures(film), pictures(recording), strict=True):
        text = next((cue.text for cue in cues if cue.start <= at + 1e-4 < cue.end), None)
        changed = np.abs(image[-30:].astype(int) - original[-30:]).mean() > 20
        assert changed == (text is not None), f"at {at} s, where the subtitles have {text}"
        assert np.abs(image[:150].astype(int) - original[:150]).mean() < 8
        if text is not None:
            letters.setdefault(text, []).append(image[-30:].min(2) > 128)
    assert len(letters) == 3
    for text, masks in letters.items():
        apart = {other: np.mean(masks[-1] != letters[other][-1]) for other in letters}
        assert np.mean(masks[0] != masks[-1]) < 0.01 and min(v for k, v in apart.items() if k != text) > 0.01


@needs_ffmpeg
def test_a_damaged_recording_gives_a_film_of_what_could_be_read(
    recording: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    whole = ffmpeg(tmp_path / "whole.ts", "-i", str(recording), "-c:v", "mpeg2video", "-an")
    (tmp_path / "half.avi").write_bytes(b"")
    half = ffmpeg(tmp_path / "half.avi", "-i", str(whole), "-c:v", "mjpeg")
    half.write_bytes(half.read_bytes()[: half.stat().st_size // 2])
    done = vlj_edge("narrate", half, "--bundle", tiny_bundle, "--record", tmp_path / "film.mp4")
    assert done.returncode == 1 and "half.avi breaks off" in done.stderr and "Traceback" not in done.stderr
    assert 90 < len(pictures(tmp_path / "film.mp4")) < 130


def test_the_call_is_wrong(video: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    done = vlj_edge("narrate", video, "--bundle", tiny_bundle, "--record", tmp_path / "film.mkv")
    assert done.returncode == 2 and "film.mp4" in done.stderr
    done = vlj_edge("narrate", video, "--bundle", tiny_bundle, "--record", video.with_suffix(""))
    assert done.returncode == 0 and video.with_suffix(".mp4").exists()
    video.with_suffix(".mp4").unlink()


def test_letters_that_no_font_has_are_named(video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with ExitStack() as cleanup:
        recorded = Recorded(VideoFile(video), lambda: VideoFile(video), tmp_path / "film.mp4", cleanup)
        recorded.finish([Narration(0, 2, "a \U0010fffd drawer", "decoder")])
    warning = capsys.readouterr().err.splitlines()[0]
    assert "U+10FFFD" in warning and "film.mp4" in warning and "fonts-noto" in warning
    assert pictures(tmp_path / "film.mp4")


@needs_ffmpeg
def test_ctrl_c_while_the_film_is_written_leaves_nothing(tiny_bundle: Path, tmp_path: Path) -> None:
    source = ffmpeg(
        tmp_path / "noise.mp4", "-f", "lavfi", "-i", "testsrc2=s=1280x720:r=25:d=20", "-preset", "ultrafast"
    )
    command = ["narrate", str(source), "--bundle", str(tiny_bundle), "--record", str(tmp_path / "film.mp4")]
    process = subprocess.Popen(
        [sys.executable, "-m", "vlj_edge", *command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("writing"):
            break
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130 and "Traceback" not in process.stderr.read()
    assert os.listdir(tmp_path) == ["noise.mp4"]


@needs_ffmpeg
def test_the_film_of_a_part_of_a_folder_of_images_begins_with_the_part(tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for number in range(12):
        Image.new("RGB", (64, 48), (255, 0, 0)).save(tmp_path / "images" / f"{number}.png")
    done = run_here(
        "narrate", tmp_path / "images", "--bundle", tiny_bundle, "--start", "1", "--record", tmp_path / "film.mp4"
    )
    assert done.returncode == 0, done.stderr
    assert times(tmp_path / "film.mp4") == pytest.approx([number / 4 for number in range(8)], abs=1e-3)


@needs_ffmpeg
def test_the_film_of_a_recording_behind_http_has_its_sound(recording: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    handler = partial(SimpleHTTPRequestHandler, directory=str(recording.parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}/{recording.name}"
        done = vlj_edge("narrate", address, "--bundle", tiny_bundle, "--record", tmp_path / "film.mp4")
        server.shutdown()
    assert done.returncode == 0 and probe(tmp_path / "film.mp4")["audio"]["codec_name"] == "aac"
    assert times(tmp_path / "film.mp4") == pytest.approx(times(recording), abs=1e-4)
