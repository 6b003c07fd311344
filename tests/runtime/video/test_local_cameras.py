"""Webcams, CSI cameras and GStreamer pipelines: their URIs, and pipelines read by Debian's OpenCV, with software
elements in the place of NVIDIA's."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import sysconfig
from contextlib import closing
from functools import cache
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from vlj_edge import VljEdgeError
from vlj_edge.errors import without_pipeline_credentials
from vlj_edge.runtime.video.cameras import opencv_reader
from vlj_edge.runtime.video.cameras.camera import CameraSource
from vlj_edge.runtime.video.cameras.camera_address import CameraAddress
from vlj_edge.runtime.video.cameras.gstreamer import Elements, readable_pipeline
from vlj_edge.runtime.video.cameras.local_cameras import local_camera

from .fake_camera import fake_camera

SOFTWARE = Elements("videotestsrc is-live=1 name=camera{sensor}", "", "videoflip video-direction={flip}")
PATTERN = "videotestsrc is-live=true pattern=solid-color foreground-color=0xff0000ff"


def camera(uri: str) -> CameraAddress:
    found = local_camera(uri, SOFTWARE)
    assert found is not None
    return found


@cache
def system_reader() -> list[str]:
    """The command line of a reader process in the system's Python, with its OpenCV and NumPy; the rest is ours."""
    site = sysconfig.get_paths()["purelib"]
    start = "from vlj_edge.runtime.video.cameras.camera_process import main; main()"
    program = f"import site; site.addsitedir({site!r}); {start}"
    probe = (
        "import sys, cv2; print(*sys.version_info[:2], cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER), sep='.');"
        f"import site; site.addsitedir({site!r}); import vlj_edge.runtime.video.cameras.reader_output"
    )
    if not Path("/usr/bin/python3").exists():
        return []
    done = subprocess.run(["/usr/bin/python3", "-c", probe], capture_output=True, text=True)
    wanted = f"{sys.version_info[0]}.{sys.version_info[1]}.True\n"
    return ["/usr/bin/python3", "-c", program] if (done.returncode, done.stdout) == (0, wanted) else []


@pytest.fixture
def reader() -> list[str]:
    if not system_reader():
        pytest.skip("the system's Python is another one, or has no OpenCV: apt install python3-opencv")
    return system_reader()


@pytest.mark.parametrize(
    ("uri", "place", "settings"),
    [
        ("0", 0, {}),
        ("v4l2://4", 4, {}),
        ("/dev/video2", "/dev/video2", {}),
        ("v4l2:///dev/v4l/by-id/usb-cam", "/dev/v4l/by-id/usb-cam", {}),
        (
            "v4l2:///dev/video0?size=1280x720&fps=30&format=MJPG",
            "/dev/video0",
            {"format": "MJPG", "width": 1280, "height": 720, "fps": 30.0},
        ),
        ("v4l2:///dev/video0,fps=7.5,size=640x480", "/dev/video0", {"width": 640, "height": 480, "fps": 7.5}),
        ("/dev/video1,format=YUYV", "/dev/video1", {"format": "YUYV"}),
        ("v4l2://1?fps=30000/1001", 1, {"fps": pytest.approx(29.97, abs=0.001)}),
    ],
)
def test_a_webcam_and_what_it_is_asked_for(uri: str, place: object, settings: dict[str, Any]) -> None:
    found = camera(uri)
    assert (found.place, found.backend, found.settings) == (place, "V4L2", settings)
    assert list(found.settings) == list(settings)  # in the order in which they are set


@pytest.mark.parametrize(
    ("uri", "wrong", "known"),
    [
        ("v4l2:///dev/video0?colour=red", "colour=red", "size=.*fps=.*format="),
        ("v4l2:///dev/video0,size=big", "size=big", "size=1280x720"),
        ("v4l2:///dev/video0?size=0x720", "size=0x720", "size="),
        ("v4l2:///dev/video0?fps=0", "fps=0", "fps="),
        ("v4l2:///dev/video0?fps=1&fps=2", "fps=2", "once"),
        ("v4l2:///dev/video0?format=H264X", "format=H264X", "format="),
        ("v4l2:///dev/video0?flip=2", "flip=2", "size=.*fps=.*format="),
        ("v4l2:///dev/video0?", None, None),
        ("csi://0?flip=9", "flip=9", "flip=2"),
        ("csi://0?format=MJPG", "format=MJPG", "size=.*fps=.*flip="),
        ("csi://front", "csi://front", "csi://0"),
        ("v4l2://door", "v4l2://door", "/dev/video0"),
        ("gst:", "gst:", "gst-launch"),
        ("gst:  ! appsink", "appsink", "gst:"),
        ("gst:appsink", "appsink", "videoconvert"),
        ("gst:videotestsrc ! filesink location=a.raw", "filesink", "appsink"),
        ('gst:filesrc location="a.mp4 ! decodebin', "quote", "close"),
    ],
)
def test_an_ill_formed_uri_is_one_line_with_what_is_known(uri: str, wrong: str | None, known: str | None) -> None:
    if wrong is None or known is None:
        assert camera(uri).settings == {}
        return
    with pytest.raises(VljEdgeError, match=f"(?s){wrong}.*{known}") as caught:
        camera(uri)
    assert "\n" not in str(caught.value)


def test_names_of_files_are_no_cameras() -> None:
    assert [local_camera(name) for name in ("0,holiday.mp4", "2024?.mp4", "clip.mp4", "dev/video0", "v4l2.mp4")] == [
        None
    ] * 5


class FakeCapture:
    """A camera that has 640x480 at 15 frames a second in YUYV, and takes nothing else."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, float]] = []

    def isOpened(self) -> bool:
        return True

    def set(self, name: int, value: float) -> None:
        self.asked.append((name, value))

    def get(self, name: int) -> float:
        return {3: 640, 4: 480, 5: 15, 6: int.from_bytes(b"YUYV", "little")}[name]


def test_what_a_webcam_does_not_take_is_one_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    capture, lines = FakeCapture(), list[str]()
    fake = SimpleNamespace(
        VideoCapture=lambda place, backend: capture,
        VideoWriter_fourcc=lambda *letters: int.from_bytes("".join(letters).encode(), "little"),
        **{"CAP_V4L2": 200, "CAP_PROP_BUFFERSIZE": 38, "CAP_PROP_FOURCC": 6},
        **{"CAP_PROP_FRAME_WIDTH": 3, "CAP_PROP_FRAME_HEIGHT": 4, "CAP_PROP_FPS": 5},
    )
    monkeypatch.setattr(opencv_reader, "import_opencv", lambda: fake)
    output: Any = SimpleNamespace(send=lines.append)
    settings = {"format": "MJPG", "width": 1280, "height": 480, "fps": 30.0}
    opencv_reader._open_webcam("/dev/video7", settings, "camera /dev/video7", output)
    assert [name for name, _ in capture.asked] == [38, 6, 3, 4, 5]
    [line] = lines
    assert line.startswith("warning camera /dev/video7 gives format YUYV in place of MJPG, width 640 in place of 1280")
    assert "fps 15 in place of 30" in line and "height" not in line
    lines.clear()
    opencv_reader._open_webcam("/dev/video7", {"format": "YUYV", "fps": 15.1}, "camera /dev/video7", output)
    assert lines == []


def test_a_readers_warning_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "vlj_edge")
    logging.getLogger("vlj_edge").propagate = True
    source = fake_camera(tmp_path, r"os.write(news, b'warning camera X gives fps 15\n'); frames(3)")
    with closing(source):
        list(islice(source, 7))
    assert source.restarts and [record.getMessage() for record in caplog.records] == ["camera X gives fps 15"]


@pytest.mark.parametrize(
    ("given", "completed"),
    [
        ("v4l2src", "v4l2src ! videoconvert ! video/x-raw,format=BGR ! appsink drop=true max-buffers=1 sync=false"),
        ("a ! appsink", "a ! videoconvert ! video/x-raw,format=BGR ! appsink drop=true max-buffers=1"),
        (
            "a ! video/x-raw, format=(string)BGR ! appsink drop=1 max-buffers=5",
            "a ! video/x-raw, format=(string)BGR ! appsink drop=1 max-buffers=5",
        ),
        (
            "gst-launch-1.0 -e -v a ! 'video/x-raw, width=64' ! nvegltransform ! nveglglessink sync=0",
            "a ! video/x-raw, width=64 ! videoconvert ! video/x-raw,format=BGR"
            " ! appsink drop=true max-buffers=1 sync=false",
        ),
        (
            r"nvarguscamerasrc ! video/x-raw\(memory:NVMM\), width=64 !",
            "nvarguscamerasrc ! video/x-raw(memory:NVMM), width=64 ! nvvidconv flip-method=0 ! video/x-raw,format=BGRx"
            " ! videoconvert ! video/x-raw,format=BGR ! appsink drop=true max-buffers=1 sync=false",
        ),
        (
            'filesrc location="what now! \\"x\\".mp4" ! decodebin',
            'filesrc location="what now! \\"x\\".mp4" ! decodebin ! videoconvert ! video/x-raw,format=BGR'
            " ! appsink drop=true max-buffers=1 sync=false",
        ),
    ],
)
def test_a_pipeline_is_completed(given: str, completed: str) -> None:
    assert readable_pipeline(given, "gst:") == completed


@pytest.mark.parametrize(
    "text",
    [
        "rtspsrc location=rtsp://me:hunter2@cam/1 ! decodebin",
        'rtspsrc location="rtsp://me:hunt er!hunter2@cam/1" ! decodebin',
        "rtspsrc location=rtsp://cam user-id=me user-pw=hunter2 ! decodebin",
        'rtspsrc location=rtsp://cam user-id=me user-pw = "a hunter2" ! decodebin',
        "souphttpsrc location=http://cam/a?x=1&token=hunter2 ! decodebin",
        "srtsrc uri=srt://cam passphrase=(string)hunter2 ! decodebin",
        'rtspsrc location="rtsp://me:hunter2@cam/1 ! decodebin',
    ],
)
def test_a_pipelines_credentials_are_not_shown(text: str) -> None:
    hidden = without_pipeline_credentials(text)
    assert "hunter2" not in hidden and "decodebin" in hidden and "cam" in hidden
    assert "hunter2" not in repr(local_camera("gst:" + text) if text.count('"') != 1 else "")


def read(address: CameraAddress, reader: list[str], count: int = 3) -> np.ndarray:
    with closing(CameraSource(address, reader=reader, opening=30)) as source:
        return [frame.image for frame in islice(source, count)][-1]


@pytest.mark.parametrize(
    "pipeline",
    [
        f"{PATTERN} ! video/x-raw,width=64,height=48",
        f"{PATTERN} ! 'video/x-raw, width=64, height=48, framerate=30/1' ! videoconvert ! appsink",
        f"{PATTERN} ! video/x-raw,width=64,height=48,format=NV12 ! appsink drop=1",
        f'gst-launch-1.0 -v {PATTERN} name="what! now" ! video/x-raw,width=64,height=48 ! autovideosink',
        f"{PATTERN} ! video/x-raw,width=64,height=48 ! x264enc tune=zerolatency ! h264parse ! avdec_h264 ! xvimagesink",
    ],
)
def test_a_pipeline_gives_bgr_pictures(pipeline: str, reader: list[str]) -> None:
    image = read(camera(f"gst:{pipeline}"), reader)
    assert image.shape == (48, 64, 3)
    assert np.abs(image.astype(int) - (255, 0, 0)).max() < 12


def test_a_csi_camera_has_the_size_rate_and_flip_that_are_asked_for(reader: list[str]) -> None:
    upright = read(camera("csi://0?size=320x240&fps=15"), reader)
    turned = read(camera("csi://0,size=320x240,fps=15,flip=2"), reader)
    assert upright.shape == turned.shape == (240, 320, 3)
    bars = slice(0, 100)  # the pattern's upper part stands still, as its noise does not
    assert np.abs(upright[bars].astype(int) - turned[::-1, ::-1][bars]).mean() < 4
    with closing(CameraSource(camera("csi://0?size=64x48&fps=15"), reader=reader, opening=30)) as source:
        next(iter(source))
        assert source.period == pytest.approx(1 / 15)


@pytest.mark.parametrize(
    ("pipeline", "reason"),
    [
        ("nosuch ! decodebin", "nosuch"),
        ("videotestsrc foo=1", "foo"),
        ("filesrc location=/nowhere/a.mp4 ! decodebin", "[nN]ot found"),
        # whose own reason may come when OpenCV listens no longer
        ("rtspsrc location=rtsp://me:hunter2@127.0.0.1:9/x user-pw=hunter2 ! decodebin", "([cC]ould not open|start)"),
        ("videotestsrc ! x264enc", "link|start"),
    ],
)
def test_a_pipeline_that_fails_is_one_line_with_gstreamers_reason(
    pipeline: str, reason: str, reader: list[str]
) -> None:
    with pytest.raises(VljEdgeError, match=f"gst:.*{reason}.*gst-launch-1.0") as caught:
        read(camera(f"gst:{pipeline}"), reader)
    assert "\n" not in str(caught.value) and "hunter2" not in str(caught.value)


def test_without_gstreamer_the_error_says_where_to_get_it() -> None:
    if json.loads(_has_gstreamer()):
        pytest.skip("this OpenCV has GStreamer")
    for uri in ("csi://0", "gst:videotestsrc"):
        with pytest.raises(VljEdgeError, match=f"{uri} needs .*GStreamer.*pip uninstall .*apt install python3-opencv"):
            CameraSource(camera(uri), opening=60)


def _has_gstreamer() -> str:
    program = "import cv2; print(str(cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER)).lower())"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
