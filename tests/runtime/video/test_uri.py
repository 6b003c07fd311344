"""URIs of sources, and the errors for invalid ones."""

from __future__ import annotations

import subprocess
import sys
import wave
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from vlj_edge import VljEdgeError
from vlj_edge.runtime.video.part import Part
from vlj_edge.runtime.video.uri import camera_address, check_source, open_source


@pytest.mark.parametrize(
    ("uri", "place", "reader"),
    [
        ("0", 0, "opencv"),
        ("v4l2://4", 4, "opencv"),
        ("/dev/video2", "/dev/video2", "opencv"),
        ("v4l2:///dev/video3", "/dev/video3", "opencv"),
        ("rtsp://me:secret@cam/1?token=abc", "rtsp://me:secret@cam/1?token=abc", "ffmpeg"),
        ("srt://cam:9000", "srt://cam:9000", "ffmpeg"),
        ("RTSP://Cam/One", "rtsp://Cam/One", "ffmpeg"),
        ("V4L2:///dev/video3", "/dev/video3", "opencv"),
        ("http://cam/stream.mjpg", "http://cam/stream.mjpg", "http"),
    ],
)
def test_live_sources_that_uris_name(uri: str, place: object, reader: str) -> None:
    found = camera_address(uri)
    assert (found.place, found.reader) == (place, reader)
    assert "secret" not in repr(found) and "abc" not in repr(found)


def write_sound(path: Path) -> Path:
    with wave.open(str(path), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(16000))
    return path


def empty_file(path: Path) -> Path:
    (path / "empty.mp4").touch()
    return path / "empty.mp4"


def truncated_mp4(path: Path) -> Path:
    # an mp4 keeps its index at the end: without it there is nothing to read
    (path / "cut.mp4").write_bytes(b"\0\0\0\x18ftypisom\0\0\2\0isomiso2" + bytes(5000))
    return path / "cut.mp4"


def bad_image(path: Path) -> Path:
    (path / "bad.png").write_bytes(b"no image")
    return path / "bad.png"


BAD: list[tuple[Callable[[Path], Any], str]] = [
    (lambda path: path / "nowhere.mp4", r"nowhere\.mp4 does not exist"),
    (lambda path: path, "images .*\\.png"),
    (empty_file, r"empty\.mp4 is empty"),
    (truncated_mp4, r"cut\.mp4.*ffprobe"),
    (lambda path: write_sound(path / "sound.wav"), r"sound\.wav.*only audio"),
    (lambda path: write_sound(path / "sound.mp4"), r"sound\.mp4.*only audio"),
    (bad_image, r"bad\.png"),
    (lambda _: 63, "camera 63 .*ls /dev/video"),
    (lambda _: "63", "camera 63"),
    (lambda _: "/dev/video63", "camera /dev/video63"),
    (lambda _: "v4l2:///dev/video63", "camera /dev/video63"),
    (lambda _: "v4l2://63", "camera 63"),
    (lambda _: "rtsp://127.0.0.1:9/stream", r"rtsp://127\.0\.0\.1:9/stream.*address"),
    (lambda _: "http://127.0.0.1:9/stream", r"http://127\.0\.0\.1:9/stream.*address"),
    (lambda _: "csi://0", "csi://0 .*GStreamer.*pip uninstall"),
    (lambda _: "csi://front", "csi://front.*csi://0"),
    (lambda _: "ftp://host/a.mp4", "ftp"),
    (lambda _: "udp://127.0.0.1", "port.*udp://127.0.0.1:5000"),
    (lambda _: "rtp://@", "port.*rtp://"),
    (lambda _: "http://a..b/x", r"a\.\.b"),
    (lambda _: "File://clips/a.mp4", r"clips.*file:///PATH"),
    (lambda _: "-?size=0x4", r"0x4.*pipe:size=640x480"),
    (lambda _: "-?colour=red", r"colour=red.*pipe:size=640x480"),
    (lambda _: "-?size=4x4&rate=fast", r"fast.*pipe:size=640x480"),
    (lambda _: "pipe:size=4x4,rate=0", r"'0'.*pipe:size=640x480"),
    (lambda _: "pipe:size=4x4,rate=1/0", r"1/0.*pipe:size=640x480"),
    (lambda _: "pipe:size=4x4,size=4x5", r"size=4x5.*pipe:size=640x480"),
    (lambda _: "pipe:format=gray", r"size.*pipe:size=640x480"),
    (lambda _: "pipe:live=yes", r"yes.*pipe:size=640x480"),
    (lambda _: "pipe:size=4x4,format=cuda", "cuda.*pix_fmts"),
    (lambda _: "pipe:size=4x4,format=rgb9000", "rgb9000.*pix_fmts"),
    (lambda _: "", "empty"),
    (lambda _: "file://clips/a.mp4", "clips.*file:///PATH"),
    (lambda _: "~nobody-here/a.mp4", r"~nobody-here/a\.mp4 does not exist"),
    (lambda _: "a\0b.mp4", "does not exist"),
]


@pytest.mark.parametrize("rate", [float("nan"), 0, -1, 1e-4, 1001])
def test_a_rate_that_cannot_be_is_refused(make_video: Callable[..., Path], rate: float) -> None:
    with pytest.raises(VljEdgeError, match="frames a second"):
        open_source(make_video([((0, 0, 255), 1)]), frames_per_second=rate)


@pytest.mark.parametrize(("start", "end"), [(float("nan"), None), (0, float("nan")), (-1, None), (2, 1), (1e13, None)])
def test_a_part_that_cannot_be_is_refused(make_video: Callable[..., Path], start: float, end: float | None) -> None:
    with pytest.raises(VljEdgeError, match="start < end"):
        open_source(make_video([((0, 0, 255), 1)]), start=start, end=end)


@pytest.mark.parametrize(
    "name", ["start", "end", "frames_per_second", "sampled_at", "rotate", "image_times", "decoder"]
)
@pytest.mark.parametrize("wrong", ["1:30", [1], True])
def test_an_argument_of_a_wrong_type_is_named(make_video: Callable[..., Path], name: str, wrong: Any) -> None:
    words = {"rotate": "turned", "image_times": "times of images"}
    with pytest.raises(VljEdgeError, match=words.get(name, name)):
        open_source(make_video([((0, 0, 255), 1)]), **{name: wrong})


@pytest.mark.parametrize("number", [np.float32(0.5), Fraction(1, 2), np.int64(0)])
def test_any_kind_of_number_is_a_time(make_video: Callable[..., Path], number: Any) -> None:
    with open_source(make_video([((0, 0, 255), 1)]), start=number) as source:
        assert next(iter(source)).time == pytest.approx(float(number), abs=0.05)


@pytest.mark.parametrize("wrong", [-1, True, None, 3.5, b"x.mp4", ["x.mp4"], np.int64(-1)])
def test_what_names_no_source_is_refused(wrong: Any) -> None:
    with pytest.raises(VljEdgeError, match="names no source"):
        open_source(wrong)


@pytest.mark.parametrize(("start", "end"), [(0.53, 0.55), (0.97, None)])
def test_a_part_between_two_pictures_is_not_called_damage(
    make_video: Callable[..., Path], start: float, end: float | None
) -> None:
    with pytest.raises(VljEdgeError, match=f"begins between {start:g} s") as caught:
        open_source(make_video([((0, 0, 255), 1)]), start=start, end=end)
    assert "damaged" not in str(caught.value)


@pytest.mark.parametrize("aspect", [Fraction(255), Fraction(1, 255), Fraction(0)])
def test_pixels_of_no_plausible_shape_are_square(tmp_path: Path, aspect: Fraction) -> None:
    with av.open(str(tmp_path / "x.mkv"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.codec_context.sample_aspect_ratio = 64, 48, aspect
        container.mux(stream.encode(av.VideoFrame(64, 48, "yuv420p")))
        container.mux(stream.encode(None))
    with open_source(tmp_path / "x.mkv") as source:
        assert [frame.image.shape for frame in source] == [(48, 64, 3)]


@pytest.mark.parametrize("make, message", BAD, ids=[message for _, message in BAD])
def test_an_error_is_one_line_that_names_the_source(tmp_path: Path, make: Callable[[Path], Any], message: str) -> None:
    with pytest.raises(VljEdgeError, match=message) as caught:
        open_source(make(tmp_path))
    assert "\n" not in str(caught.value)


def test_credentials_are_never_shown() -> None:
    with pytest.raises(VljEdgeError) as caught:
        open_source("rtsp://admin:hunter2@127.0.0.1:9/stream")
    assert "hunter2" not in str(caught.value)
    assert "admin" not in str(caught.value)
    assert "rtsp://***@127.0.0.1:9/stream" in str(caught.value)


def test_opencv_and_ffmpeg_print_nothing_on_stderr(tmp_path: Path) -> None:
    # in a process of its own: OpenCV and FFmpeg write to the file descriptor, and read their settings at import
    damaged = tmp_path / "damaged.avi"
    program = f"""
from vlj_edge import VljEdgeError
from vlj_edge.runtime.video.cameras.opencv import import_opencv as opencv
from vlj_edge.runtime.video.uri import open_source
import numpy as np
cv2 = opencv()
writer = cv2.VideoWriter({str(damaged)!r}, cv2.VideoWriter_fourcc(*"mp4v"), 25, (64, 48))
for i in range(50):
    writer.write(np.random.default_rng(i).integers(0, 255, (48, 64, 3), dtype=np.uint8))
writer.release()
data = bytearray(open({str(damaged)!r}, "rb").read())
data[20000:60000] = bytes(40000)
open({str(damaged)!r}, "wb").write(data)
print(len(list(open_source({str(damaged)!r}))))
for bad in ({str(write_sound(tmp_path / "sound.mp4"))!r}, {str(truncated_mp4(tmp_path))!r}, "63", "/dev/video63"):
    try:
        open_source(bad)
    except VljEdgeError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 5


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"start": -1}, "-1"),
        ({"start": float("nan")}, "nan"),
        ({"start": float("inf")}, "inf"),
        ({"start": 2, "end": 1}, "1 s"),
        ({"end": float("nan")}, "nan"),
        ({"frames_per_second": 0}, "0"),
        ({"frames_per_second": -1}, "-1"),
        ({"frames_per_second": float("nan")}, "nan"),
        ({"sampled_at": 0}, "0"),
        ({"rotate": 45}, "45"),
        ({"decoder": "gpu"}, "gpu"),
        ({"image_times": "mtime"}, "mtime"),
        ({"image_times": "exif", "frames_per_second": 8}, "exif"),
        ({"image_times": "exif"}, "video.avi"),
    ],
    ids=str,
)
def test_options_that_mean_nothing_are_refused(
    options: dict[str, Any], word: str, make_video: Callable[..., Path], tmp_path: Path
) -> None:
    video = make_video([((0, 0, 255), 1)]).rename(tmp_path / "video.avi")
    with pytest.raises(VljEdgeError, match=word):
        open_source(video, **options)


@pytest.mark.parametrize("uri", ["0", "rtsp://127.0.0.1:1/x", "udp://127.0.0.1:5000"])
@pytest.mark.parametrize("options", [{"frames_per_second": 8}, {"image_times": "exif"}], ids=str)
def test_times_of_recordings_are_refused_of_live_sources(uri: str, options: dict[str, Any]) -> None:
    with pytest.raises(VljEdgeError, match="leave"):
        open_source(uri, **options)


@pytest.mark.parametrize(
    ("uri", "part"),
    [
        ("nope://x", Part()),
        ("rtsp://", Part()),
        ("rtsp://me:p@ss/word@camera/1", Part()),
        ("rtsp://${NOT_SET_HERE}@camera/1", Part()),
        ("csi://first", Part()),
        ("/dev/video0?size=big", Part()),
        ("pipe:size=big", Part()),
        ("file://elsewhere/x.mp4", Part()),
        ("", Part()),
        ("rtsp://127.0.0.1:1/x", Part(start=2)),
        ("0", Part(frames_per_second=8)),
        ("udp://127.0.0.1:5000", Part(image_times="exif")),
        ("none.mp4", Part(start=2, end=1)),
    ],
    ids=str,
)
def test_what_is_wrong_with_an_address_is_known_without_opening_it(uri: str, part: Part) -> None:
    with pytest.raises(VljEdgeError) as opened:
        open_source(uri, **vars(part), keep_trying=True)
    with pytest.raises(VljEdgeError) as checked:
        check_source(uri, part)
    assert str(checked.value) == str(opened.value)


def test_an_address_where_nothing_is_yet_is_not_wrong() -> None:
    for uri in ("none.mp4", "0", "rtsp://127.0.0.1:1/x", "http://127.0.0.1:1/x", "-", "gst:videotestsrc"):
        check_source(uri, Part())
    check_source("http://127.0.0.1:1/x", Part(start=2, frames_per_second=8))
    check_source("pipe:live=1", Part(), loop=True)
    with pytest.raises(VljEdgeError, match="loop"):
        check_source("-", Part(), loop=True)
