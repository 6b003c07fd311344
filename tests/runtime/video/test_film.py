"""Films play everywhere, have the source's times and its sound in sync, and are there whole or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import closing, nullcontext
from pathlib import Path

import numpy as np
import pytest

from tests.runtime.films import ffmpeg, loudness, needs_ffmpeg, pictures, probe, times
from vlj_edge.errors import VljEdgeError
from vlj_edge.runtime.video.recordings.files import VideoFile
from vlj_edge.runtime.video.recordings.film import check_film, film
from vlj_edge.runtime.video.source import Source
from vlj_edge.runtime.video.uri import open_source

# A tone from 1.0 s to 1.2 s and a white picture at the same time, in 2.5 s.
BEEP = ("-f", "lavfi", "-i", "sine=1000:d=2.5:r=22050,volume='between(t,1,1.2)':eval=frame")
FLASH = ("-f", "lavfi", "-i", "color=black:s=64x48:r=25:d=2.5,drawbox=c=white:t=fill:enable='between(t,1,1.199)'")


def picture(width: int = 64, height: int = 48, colour: tuple[int, int, int] = (200, 60, 30)) -> np.ndarray:
    return np.full((height, width, 3), colour, np.uint8)


def copied(source: Path, path: Path, start: float = 0.0, end: float | None = None) -> Path:
    with open_source(source, start=start, end=end) as frames:
        assert isinstance(frames, VideoFile)
        sound = frames.sound()
        with closing(sound) if sound else nullcontext(), film(path, frames.period, sound) as writer:
            for frame in frames:
                writer.write(frame.time - start, frame.image)
    return path


@needs_ffmpeg
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("ntsc.mp4", ("-f", "lavfi", "-i", "testsrc=s=161x121:r=30000/1001:d=1", "-pix_fmt", "yuv444p")),
        ("cinema.mkv", ("-f", "lavfi", "-i", "testsrc=s=64x48:r=24000/1001:d=1")),
        ("slow.mp4", ("-f", "lavfi", "-i", "testsrc=s=64x48:r=1/2:d=10")),
        (
            "vfr.mkv",
            ("-f", "lavfi", "-i", "testsrc=s=64x48:r=30:d=2,select='not(mod(n\\,7))+gt(n\\,40)'", "-vsync", "vfr"),
        ),
        ("late.mkv", (*BEEP, "-itsoffset", "0.5", "-f", "lavfi", "-i", "testsrc=s=64x48:r=25:d=1")),
        ("far.ts", (*FLASH, "-c:v", "mpeg2video", "-muxdelay", "0", "-output_ts_offset", "95000")),
    ],
)
def test_a_film_has_the_times_of_its_source(tmp_path: Path, name: str, arguments: tuple[str, ...]) -> None:
    source = ffmpeg(tmp_path / name, *arguments)
    made = copied(source, tmp_path / "film.mp4")
    video = probe(made)["video"]
    assert (video["codec_name"], video["pix_fmt"]) == ("h264", "yuv420p")
    assert video["width"] % 2 == 0 and video["height"] % 2 == 0
    expected = np.array(times(source))
    expected -= 95000 if name == "far.ts" else 0
    assert np.abs(np.array(times(made)) - expected).max() < 0.0011  # Matroska has milliseconds


@needs_ffmpeg
@pytest.mark.parametrize(
    "codec", [("aac",), ("pcm_s16le",), ("ac3", "-ac", "6", "-ar", "44100"), ("mp2", "-ar", "48000")]
)
@pytest.mark.parametrize(("start", "end"), [(0.0, None), (0.48, None), (0.6, 2.0)])
def test_the_sound_is_in_sync(tmp_path: Path, codec: tuple[str, ...], start: float, end: float | None) -> None:
    source = ffmpeg(tmp_path / "flash.mkv", *BEEP, *FLASH, "-c:v", "libx264", "-g", "25", "-c:a", *codec)
    made = copied(source, tmp_path / "film.mp4", start, end)
    streams = probe(made)
    assert streams["audio"]["codec_name"] == "aac" and abs(float(streams["audio"]["start_time"])) < 0.001
    assert float(streams["audio"]["duration"]) == pytest.approx((end or 2.5) - start, abs=0.06)
    heard, original = (np.flatnonzero(loudness(path, 0.01) > 0.03) / 100 for path in (made, source))
    assert heard[0] == pytest.approx(original[0] - start, abs=0.025)
    assert heard[-1] == pytest.approx(original[-1] - start, abs=0.035)
    seen, white = (
        [at for at, image in zip(times(path), pictures(path), strict=True) if image.mean() > 128]
        for path in (made, source)
    )
    assert seen == pytest.approx([at - start for at in white], abs=0.0011) and len(seen) == 5


@needs_ffmpeg
def test_sound_that_begins_late_or_pauses_stays_in_sync(tmp_path: Path) -> None:
    beep = ffmpeg(tmp_path / "beep.mkv", *BEEP, "-c:a", "pcm_s16le")
    for name, chosen in (("late", "between(t,0.8,9)"), ("paused", "lt(t,0.3)+gt(t,0.7)")):
        source = tmp_path / f"{name}.mkv"
        ffmpeg(source, "-i", str(beep), *FLASH, "-af", f"aselect='{chosen}'", "-c:a", "pcm_s16le")
        heard = np.flatnonzero(loudness(copied(source, tmp_path / f"{name}.mp4"), 0.01) > 0.03)
        assert heard[0] == pytest.approx(100, abs=4)


@needs_ffmpeg
def test_colours_and_sizes(tmp_path: Path) -> None:
    for width, height in ((1, 1), (65, 49), (640, 360), (1280, 720)):
        with film(tmp_path / "film.mp4", 0.1) as writer:
            for number in range(3):
                writer.write(number / 10, picture(width, height))
        shown = probe(tmp_path / "film.mp4")["video"]
        assert (shown["width"], shown["height"]) == (max(16, width + width % 2), max(16, height + height % 2))
        matrix = {"bt709": "bt709", "smpte170m": "bt601"}[shown["color_space"]]
        command = ["ffmpeg", "-v", "error", "-i", str(tmp_path / "film.mp4"), "-vf", f"scale=in_color_matrix={matrix}"]
        raw = subprocess.run([*command, "-pix_fmt", "bgr24", "-f", "rawvideo", "-"], check=True, capture_output=True)
        assert np.abs(np.frombuffer(raw.stdout, np.uint8).reshape(-1, 3).mean(0) - (200, 60, 30)).max() < 6


def test_pictures_of_another_size_are_fitted_into_that_of_the_first(tmp_path: Path) -> None:
    with film(tmp_path / "film.mp4", 0.1) as writer:
        for number, (width, height) in enumerate(((64, 48), (640, 480), (20, 40))):
            writer.write(number / 10, picture(width, height))
    found = pictures(tmp_path / "film.mp4")
    assert len(found) == 3 and {image.shape for image in found} == {(48, 64, 3)}
    assert found[2][24, 32, 0] > 150 and found[2][24, 2].max() < 40, "a tall one has bars at its sides"


def test_times_that_do_not_grow(tmp_path: Path) -> None:
    with film(tmp_path / "film.mp4", 0.1) as writer:
        for at in (0.0, 0.1, 0.1, 0.05, 0.3):
            writer.write(at, picture())
    assert len(pictures(tmp_path / "film.mp4")) == 5


def test_names_that_look_like_something_else(tmp_path: Path) -> None:
    for name in (b"n\xff.mp4", b"a=b:%03d.mp4", b"pipe:1.mp4", "日 本.mp4".encode()):
        path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
        with film(path, 0.1) as writer:
            writer.write(0, picture())
        assert os.fsencode(path.name) in os.listdir(os.fsencode(tmp_path))


@pytest.mark.parametrize("error", [KeyboardInterrupt, VljEdgeError, OSError])
def test_an_end_in_the_middle_leaves_nothing_and_what_was_there_before(
    tmp_path: Path, error: type[BaseException]
) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(b"before")
    with pytest.raises(VljEdgeError if error is OSError else error), film(path, 0.1) as writer:
        for number in range(100):
            writer.write(number / 10, picture())
        raise error("it breaks off")
    assert path.read_bytes() == b"before" and os.listdir(tmp_path) == ["film.mp4"]


def test_without_pictures_there_is_no_film(tmp_path: Path) -> None:
    with pytest.raises(VljEdgeError, match=r"film\.mp4"), film(tmp_path / "film.mp4", 0.1):
        pass
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("count", "limit"), [(200, 100_000), (30, 100_000), (3, 100)])
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path, count: int, limit: int) -> None:
    """A limit on the size of files fails in the same calls as a full disk: while pictures or the index are written."""
    program = f"""
import resource, signal, numpy as np
from pathlib import Path
from vlj_edge.errors import VljEdgeError
from vlj_edge.runtime.video.recordings.film import film
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, resource.RLIM_INFINITY))
random = np.random.default_rng(0)
try:
    with film(Path({str(tmp_path / "film.mp4")!r}), 0.1) as writer:
        for number in range({count}):
            writer.write(number / 10, random.integers(0, 255, (120, 160, 3), dtype=np.uint8))
except VljEdgeError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stderr == "" and len(done.stdout.splitlines()) == 1
    assert "film.mp4" in done.stdout and "free space" in done.stdout
    assert os.listdir(tmp_path) == []


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere" / "film.mp4", tmp_path):
        with pytest.raises(VljEdgeError, match=tmp_path.name):
            check_film(path)
    check_film(tmp_path / "film.mp4")
    assert os.listdir(tmp_path) == []


def test_a_part_that_is_written_again_has_no_sound_where_there_is_none(tmp_path: Path) -> None:
    with film(tmp_path / "film.mp4", 0.1) as writer:
        writer.write(0, picture())
    source: Source = open_source(tmp_path / "film.mp4")
    assert isinstance(source, VideoFile) and source.rereadable and source.sound() is None
    source.close()
