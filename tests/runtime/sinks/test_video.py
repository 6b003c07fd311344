"""The video of a live source: finished segments play, their text is readable, and none is lost."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.runtime.films import needs_ffmpeg, pictures, probe, times
from tests.runtime.sinks.events import event
from vlj_edge.errors import VljEdgeError
from vlj_edge.runtime.sinks.queue import SinkQueue
from vlj_edge.runtime.sinks.video import AnnotatedVideoWriter


def picture(width: int = 320, height: int = 240, colour: tuple[int, int, int] = (200, 60, 60)) -> np.ndarray:
    return np.full((height, width, 3), colour, np.uint8)


def segments(folder: Path) -> dict[str, int]:
    return {p.name: len(pictures(p)) for p in sorted(folder.iterdir())}


def test_segments_of_so_many_seconds(tmp_path: Path) -> None:
    video = AnnotatedVideoWriter(tmp_path / "out.mp4", 0.1, segment_seconds=1.0)
    for index in range(25):
        video.write_frame(index * 0.1, picture())
        names = [p.name for p in tmp_path.iterdir() if not p.name.startswith(".")]
        assert len(names) == index // 10  # none has its name before it is finished
    video.close()
    video.close()
    video.write_frame(2.5, picture())
    assert segments(tmp_path) == {"out-0001.mp4": 10, "out-0002.mp4": 10, "out-0003.mp4": 5}


def test_the_text_is_drawn_into_the_frames_that_follow_it(tmp_path: Path) -> None:
    video = AnnotatedVideoWriter(tmp_path / "out.mp4", 0.1)
    video.write_frame(0.0, picture())
    queue = SinkQueue("video", video)
    queue.put(event(0, "a drawer is opened"))
    while queue.state()["delivered"] < 1:
        time.sleep(0.002)
    video.write_frame(0.1, picture())
    queue.close()
    before, after = pictures(tmp_path / "out-0001.mp4")
    assert np.abs(before.astype(int) - picture()).max() < 20
    assert after[-30:].max() > 230 and np.median(after[-30:]) < 100  # white on dark
    assert np.abs(after[:120].astype(int) - picture()[:120]).max() < 20


@needs_ffmpeg
def test_frames_keep_their_times_and_one_of_an_earlier_time_begins_a_segment(tmp_path: Path) -> None:
    video = AnnotatedVideoWriter(tmp_path / "out.mp4", 0.1, segment_seconds=2.0)
    for at in (0.0, 0.1, 0.57, 0.6, 100.0, 100.1, 0.2):  # a source may begin anew
        video.write_frame(at, picture())
    video.close()
    assert segments(tmp_path) == {"out-0001.mp4": 4, "out-0002.mp4": 2, "out-0003.mp4": 1}
    assert times(tmp_path / "out-0001.mp4") == pytest.approx([0.0, 0.1, 0.57, 0.6], abs=1e-4)
    assert probe(tmp_path / "out-0001.mp4")["video"]["codec_name"] == "h264"


def test_frames_of_another_size_and_odd_sizes(tmp_path: Path) -> None:
    video = AnnotatedVideoWriter(tmp_path / "out.mp4", 0.1)
    for number, (width, height) in enumerate(((65, 49), (640, 480), (20, 10))):
        video.write_frame(number / 10, picture(width, height))
    video.close()
    found = pictures(tmp_path / "out-0001.mp4")
    assert len(found) == 3 and len({image.shape for image in found}) == 1


def test_a_later_run_goes_on_counting(tmp_path: Path) -> None:
    for _ in range(2):
        video = AnnotatedVideoWriter(tmp_path / "a.b.mp4", 0.1)
        video.write_frame(0.0, picture())
        video.close()
    assert segments(tmp_path) == {"a.b-0001.mp4": 1, "a.b-0002.mp4": 1}


def test_without_frames_there_is_no_file(tmp_path: Path) -> None:
    video = AnnotatedVideoWriter(tmp_path / "out.mp4", 0.1)
    video.write(event(0, "x"))
    video.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("moment", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in range(1, 7))])
def test_killed_at_any_moment_what_was_finished_plays(tmp_path: Path, moment: int) -> None:
    writer = (
        "import itertools, sys\nimport numpy as np\n"
        "from vlj_edge.runtime.sinks.video import AnnotatedVideoWriter\n"
        "video = AnnotatedVideoWriter(sys.argv[1], 0.1, segment_seconds=2.0)\n"
        "for n in itertools.count():\n"
        "    video.write_frame(n * 0.1, np.full((48, 64, 3), n % 256, np.uint8))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", writer, str(tmp_path / "out.mp4")])
    end = time.monotonic() + 60
    while not (tmp_path / "out-0003.mp4").exists():
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.005)
    time.sleep(0.003 * moment)
    process.kill()
    process.wait()
    finished = sorted(tmp_path.glob("out-*.mp4"))
    assert len(finished) >= 3
    assert {len(pictures(path)) for path in finished} == {20}


def test_a_segment_that_cannot_be_written_is_reported_and_the_next_is_written(tmp_path: Path) -> None:
    video = AnnotatedVideoWriter(tmp_path / "out.mp4", 0.1, segment_seconds=20.0)
    for number in range(100):
        video.write_frame(number / 10, picture())
    for unfinished in tmp_path.iterdir():  # as little is there when the disk was full
        unfinished.unlink()
    with pytest.raises(VljEdgeError, match=r"out-0001.*free space"):
        video.write_frame(20.0, picture())
    video.write_frame(20.1, picture())
    video.close()
    assert segments(tmp_path) == {"out-0002.mp4": 1}


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(VljEdgeError, match="nowhere"):
        AnnotatedVideoWriter(tmp_path / "nowhere" / "out.mp4", 0.1)
