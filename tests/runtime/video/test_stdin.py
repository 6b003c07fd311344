"""Videos, JPEGs and raw frames that come through pipes."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cli.command import listen_to_ctrl_c
from vlj_edge import VljEdgeError
from vlj_edge.runtime.video.part import Part
from vlj_edge.runtime.video.paths import open_path
from vlj_edge.runtime.video.recordings.stdin import open_pipe, pipe_options
from vlj_edge.runtime.video.source import Source


@contextmanager
def piped(data: bytes) -> Iterator[int]:
    """A pipe into which a thread writes."""
    reading, writing = os.pipe()

    def write() -> None:
        with suppress(BrokenPipeError), os.fdopen(writing, "wb", buffering=0) as pipe:
            pipe.write(data)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield reading
    finally:
        os.close(reading)
        thread.join()


def read(uri: str, data: bytes) -> tuple[list[float], list[np.ndarray], Source]:
    options = pipe_options(uri)
    assert options is not None
    with piped(data) as descriptor, closing(open_pipe(options, Part(), 4.0, descriptor)) as source:
        frames = list(source)
        return [frame.time for frame in frames], [frame.image for frame in frames], source


def jpeg(colour: tuple[int, int, int]) -> bytes:
    file = io.BytesIO()
    PIL.Image.new("RGB", (64, 48), colour[::-1]).save(file, "JPEG")
    return file.getvalue()


def video(path: Path, form: str, codec: str = "mpeg4", **options: str) -> bytes:
    """A second of 10 frames."""
    with av.open(str(path), "w", format=form, options=options) as container:
        stream = container.add_stream(codec, Fraction(10))
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(10):
            picture = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 20 * number, np.uint8), "bgr24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path.read_bytes()


FORMATS = {
    "mp4 with its index last": ("mp4", "mpeg4", {}),
    "mp4 with its index first": ("mp4", "mpeg4", {"movflags": "+faststart"}),
    "fragmented mp4": ("mp4", "mpeg4", {"movflags": "+frag_keyframe+empty_moov"}),
    "quicktime": ("mov", "mpeg4", {}),
    "matroska": ("matroska", "mpeg4", {}),
    "mpegts": ("mpegts", "mpeg2video", {}),
    "avi": ("avi", "mpeg4", {}),
    "flv": ("flv", "flv1", {}),
}


@pytest.mark.parametrize("kind", FORMATS)
def test_any_container_comes_through_a_pipe_as_from_a_file(kind: str, tmp_path: Path) -> None:
    form, codec, options = FORMATS[kind]
    data = video(tmp_path / "video", form, codec, **options)
    with closing(open_path(tmp_path / "video", Part(), None)) as file:
        wanted = [(frame.time, frame.image.mean().round()) for frame in file]
    times, images, source = read("-", data)
    assert [(time, image.mean().round()) for time, image in zip(times, images, strict=True)] == wanted
    assert len(wanted) == 10 and not source.live and source.incomplete is None


def test_a_pipe_is_a_recording_unless_it_is_said_to_be_live() -> None:
    data = b"".join(jpeg((10 * number, 0, 0)) for number in range(5))
    times, _, source = read("-?rate=8", data)
    assert times == [0, 0.125, 0.25, 0.375, 0.5] and not source.live and source.period == 0.125
    times, _, source = read("pipe:live=1", data)
    assert source.live and times == sorted(times) and times[0] == 0 and times[-1] < 0.1


def test_a_rate_that_nothing_states_is_assumed_and_said(caplog: pytest.LogCaptureFixture) -> None:
    for uri, data in (("-", jpeg((0, 0, 9)) * 3), ("pipe:size=2x2,format=gray", bytes(12))):
        caplog.clear()
        assert read(uri, data)[0] == pytest.approx([0, 0.04, 0.08])
        assert "25 a second" in caplog.messages[0] and len(caplog.messages) == 1
        caplog.clear()
        assert read(f"{uri}{'?' if uri == '-' else ','}rate=30000/1001", data)[0][1] == pytest.approx(1001 / 30000)
        assert not caplog.messages


@pytest.mark.parametrize("between", [b"", b"\n", b"\0", b"\r\n--boundary\r\nContent-Type: image/jpeg\r\n\r\n"])
def test_damaged_jpegs_are_skipped_and_counted(between: bytes) -> None:
    red, blue, green = jpeg((0, 0, 254)), jpeg((254, 0, 0)), jpeg((0, 254, 0))
    damaged = [red[:4] + bytes(100) + b"\xff\xd9", red[:-20]]
    _, images, source = read("-?rate=4", between + between.join([red, blue, *damaged, green]) + between)
    wanted = [(0, 0, 254), (254, 0, 0), (0, 254, 0)]
    assert np.abs(np.subtract([image[0, 0] for image in images], wanted)).max() <= 3
    assert source.bad == 2 and source.incomplete is not None and "2 of its pictures" in source.incomplete


# FFmpeg shows 0xFF only as the first byte of a mark, so what lies between JPEGs has none.
@settings(max_examples=25, deadline=None)
@given(st.lists(st.binary(max_size=300).map(lambda data: data.replace(b"\xff", b"\0")), min_size=6, max_size=6))
def test_whatever_lies_between_jpegs_loses_none(paddings: list[bytes]) -> None:
    colours = [40 * number for number in range(6)]
    data = b"".join(jpeg((colour,) * 3) + padding for colour, padding in zip(colours, paddings, strict=True))
    _, images, source = read("-?rate=4", data)
    assert np.abs(np.subtract([image.mean() for image in images], colours)).max() < 2 and source.bad == 0


@pytest.mark.parametrize(
    "form", ["bgr24", "rgb24", "gray", "yuv420p", "nv12", "yuyv422", "bgra", "yuv444p", "gray16le"]
)
@pytest.mark.parametrize("size", [(6, 4), (7, 5)])
def test_raw_frames_in_any_pixel_format(form: str, size: tuple[int, int]) -> None:
    image = np.full((size[1], size[0], 3), (10, 130, 250), np.uint8)
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        pytest.skip("needs ffmpeg, which makes the raw frames")
    shape = ["-f", "rawvideo", "-video_size", f"{size[0]}x{size[1]}"]
    made = subprocess.run(
        [ffmpeg, "-v", "error", *shape, "-pix_fmt", "bgr24", "-i", "-", "-f", "rawvideo", "-pix_fmt", form, "-"],
        input=image.tobytes() * 3,
        capture_output=True,
        check=True,
    ).stdout
    times, images, _ = read(f"-?size={size[0]}x{size[1]}&rate=10&format={form}", made + made[:5])
    assert times == pytest.approx([0, 0.1, 0.2])
    wanted = (155, 155, 155) if form.startswith("gray") else (10, 130, 250)
    # ffmpeg itself mixes the last colour of an odd row with what follows, and scaling mixes in its neighbours
    assert np.abs(np.subtract(images[0][:2, :3], wanted)).max() <= 5 and images[0].shape == image.shape


@pytest.mark.parametrize("data", [b"", b"text\n" * 50, bytes(3000), b"\xff\xd8\xff", b"\0\0\0\x18ftypisom"])
def test_a_pipe_without_pictures_is_one_line(data: bytes) -> None:
    with pytest.raises(VljEdgeError, match="stdin"):
        read("-", data)


def test_a_terminal_is_no_source() -> None:
    ours, theirs = os.openpty()
    try:
        with pytest.raises(VljEdgeError, match=r"terminal.*ffmpeg -i VIDEO"):
            open_pipe(pipe_options("-"), Part(), None, theirs)  # type: ignore[arg-type]
    finally:
        os.close(ours)
        os.close(theirs)


def test_a_redirected_file_can_be_read_again(tmp_path: Path) -> None:
    video(tmp_path / "video.mp4", "mp4")
    with (tmp_path / "video.mp4").open("rb") as file:
        for _ in range(2):
            with closing(open_pipe(pipe_options("-"), Part(0.5), 4.0, file.fileno())) as source:  # type: ignore[arg-type]
                assert source.rereadable and next(iter(source)).time == 0.5


def test_a_named_pipe_is_read_as_stdin_is(tmp_path: Path) -> None:
    data, path, before = video(tmp_path / "video.mp4", "mp4"), tmp_path / "pipe", set(os.listdir("/proc/self/fd"))
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(data,))
    writer.start()
    with closing(open_path(path, Part(), None)) as source:
        assert len(list(source)) == 10
    writer.join()
    assert set(os.listdir("/proc/self/fd")) == before


def test_ctrl_c_ends_the_wait_for_a_first_picture() -> None:
    program = """
from vlj_edge import open_source
print(1, flush=True)
try:
    open_source("-")
except KeyboardInterrupt:
    print(2)
"""
    command, pipe = [sys.executable, "-c", program], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, preexec_fn=listen_to_ctrl_c) as process:
        assert process.stdin is not None and process.stdout is not None and process.stdout.readline()
        process.stdin.write(jpeg((0, 0, 0))[:200])  # so that FFmpeg waits as well
        process.stdin.flush()
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == b"2\n" and process.wait(60) == 0
