"""Live sources, each read by a process of its own: real servers, and readers that misbehave as cameras do."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest

from vlj_edge import VljEdgeError
from vlj_edge.runtime.model import Model
from vlj_edge.runtime.video import camera
from vlj_edge.runtime.video.camera import CameraSource, CameraState
from vlj_edge.runtime.video.files import VideoFile
from vlj_edge.runtime.video.opencv import import_opencv
from vlj_edge.runtime.video.shared_frames import MOST_PIXELS, SharedFrames, create_shared_memory
from vlj_edge.runtime.video.uri import camera_address, open_source

from .fake_camera import fake_camera

HERE = Path(__file__).parent
PAUSES = (camera._FIRST_PAUSE, camera._LONGEST_PAUSE)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera, "_FIRST_PAUSE", 0.05)
    monkeypatch.setattr(camera, "_LONGEST_PAUSE", 0.2)


# --- the slots


def test_the_newest_whole_frame_is_taken() -> None:
    descriptor = create_shared_memory()
    writer, reader = SharedFrames(descriptor), SharedFrames(descriptor)
    os.close(descriptor)
    assert reader.read_newest(0) is None
    for number in range(1, 9):
        shape = (4 + number, 3, 3)  # the size may change at any time
        writer.write(number / 10, np.full(shape, number, np.uint8))
        taken = reader.read_newest(number - 1)
        assert taken is not None and (taken.number, taken.time, taken.image.shape) == (number, number / 10, shape)
        assert (taken.image == number).all()
        assert reader.read_newest(number) is None
    writer.count_bad()
    assert reader.bad == 1
    writer.close()
    reader.close()


@pytest.mark.parametrize("number", range(2, 8))
def test_a_frame_that_is_half_written_is_not_taken(number: int) -> None:
    """As when the reader is killed in the midst of it: the frame before it is the newest that is whole."""
    descriptor = create_shared_memory()
    writer, reader = SharedFrames(descriptor), SharedFrames(descriptor)
    os.close(descriptor)
    for before in range(1, number):
        writer.write(before / 10, np.full((4, 4, 3), before, np.uint8))
    state = bytes(writer._memory[:64])
    writer.write(number / 10, np.full((4, 4, 3), 255, np.uint8))
    writer._memory[:64] = state  # what is written last was not
    at = 64 + number % 3 * (64 + MOST_PIXELS * 3)
    writer._memory[at + 24 : at + 32] = bytes(8)  # nor the number's second half
    taken = reader.read_newest(0)
    assert taken is not None and taken.number == number - 1 and (taken.image == number - 1).all()
    writer.close()
    reader.close()


def test_no_frame_is_torn_while_another_process_writes() -> None:
    descriptor = create_shared_memory()
    program = (
        "import sys, numpy as np; from vlj_edge.runtime.video.shared_frames import SharedFrames;"
        "slots = SharedFrames(int(sys.argv[1]));"
        "[slots.write(0.0, np.full((240, 320, 3), n % 251, np.uint8)) for n in range(20000)]"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(descriptor)], pass_fds=[descriptor]) as writer:
        reader, seen, last = SharedFrames(descriptor), 0, 0
        while writer.poll() is None:
            taken = reader.read_newest(last)
            if taken is not None:
                assert (taken.image == taken.image[0, 0, 0]).all() and taken.number > last
                last, seen = taken.number, seen + 1
    assert seen > 20
    reader.close()
    os.close(descriptor)


# --- readers that misbehave


def test_a_reader_that_hangs_is_killed_and_started_again(tmp_path: Path) -> None:
    states: list[CameraState] = []
    source = fake_camera(tmp_path, "frames(3); time.sleep(600)", on_state=states.append)
    with closing(source):
        frames = list(islice(source, 7))
    assert source.restarts >= 1 and states[:3] == ["live", "lost", "live"]
    assert {int(frame.image[0, 0, 0]) // 10 for frame in frames} >= {0, 1}
    assert all(a.time < b.time for a, b in pairwise(frames))
    assert frames[0].image.shape == (4, 6, 3) and source.period == pytest.approx(0.02)


@pytest.mark.parametrize("program", ["frames(4)", "frames(4); os._exit(3)", "frames(4); os.kill(os.getpid(), 11)"])
def test_a_source_that_ends_is_opened_again(tmp_path: Path, program: str) -> None:
    source = fake_camera(tmp_path, program)
    with closing(source):
        seen = {int(frame.image[0, 0, 0]) // 10 for frame in islice(source, 9)}
    assert len(seen) >= 2 and source.incomplete is None


def test_a_source_that_comes_later_is_waited_for(tmp_path: Path) -> None:
    source = fake_camera(tmp_path, "frames(99) if tries > 2 else None", keep_trying=True)
    with closing(source):
        assert int(next(iter(source)).image[0, 0, 0]) >= 30
    with pytest.raises(VljEdgeError, match="camera X gives no picture: look"):
        fake_camera(tmp_path / "..", "None", opening=0.5)


def test_whoever_is_late_gets_the_newest(tmp_path: Path) -> None:
    source = fake_camera(tmp_path, "frames(40, 0.005); open(counter + '.done', 'w'); time.sleep(600)", stale=60)
    with closing(source):
        frames = iter(source)
        next(frames)
        wait_for((tmp_path / "tries.done").exists, 120)
        assert int(next(frames).image[0, 0, 0]) == 39
        assert 30 < source.dropped <= 38


# --- addresses


@pytest.mark.parametrize(
    ("uri", "place", "backend"),
    [
        ("0", 0, "ANY"),
        ("v4l2://4", 4, "ANY"),
        ("/dev/video2", "/dev/video2", "ANY"),
        ("v4l2:///dev/video3", "/dev/video3", "ANY"),
        ("rtsp://me:secret@cam/1?token=abc", "rtsp://me:secret@cam/1?token=abc", "FFMPEG"),
        ("http://cam/stream.mjpg", "http://cam/stream.mjpg", "FFMPEG"),
    ],
)
def test_what_a_person_types_is_what_is_opened(uri: str, place: object, backend: str) -> None:
    found = camera_address(uri)
    assert found is not None and (found.place, found.backend) == (place, backend)
    assert "secret" not in repr(found) and "abc" not in repr(found)
    assert ("rtsp_transport;tcp" in str(found.environment)) == uri.startswith("rtsp")


def test_a_csi_camera_is_a_pipeline_where_opencv_has_gstreamer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_opencv().videoio_registry, "hasBackend", lambda backend: True)
    found = camera_address("csi://1")
    assert found is not None and found.backend == "GSTREAMER"
    assert "nvarguscamerasrc sensor-id=1 !" in str(found.place) and "drop=true" in str(found.place)


# --- real servers


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


def has_rtsp_server() -> bool:
    probe = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"
    python = Path("/usr/bin/python3")
    return python.exists() and subprocess.run([python, "-c", probe], capture_output=True, check=False).returncode == 0


@pytest.fixture
def rtsp() -> Iterator[Callable[[int, str], subprocess.Popen[str]]]:
    if not has_rtsp_server():
        pytest.skip("GStreamer's RTSP server is not installed: apt install gir1.2-gst-rtsp-server-1.0")
    running: list[subprocess.Popen[str]] = []

    def serve(port: int, colour: str) -> subprocess.Popen[str]:
        command = ["/usr/bin/python3", str(HERE / "rtsp_server.py"), str(port), colour]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        running.append(server)
        assert server.stdout is not None and server.stdout.readline() == "ready\n"
        return server

    yield serve
    for server in running:
        server.kill()
        server.wait()


@pytest.mark.parametrize("away", [0, pytest.param(25, marks=pytest.mark.slow)])
def test_narration_goes_on_when_an_rtsp_camera_comes_back(
    away: float,
    tiny_bundle: Path,
    rtsp: Callable[[int, str], subprocess.Popen[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(camera, "_FIRST_PAUSE", PAUSES[0])
    monkeypatch.setattr(camera, "_LONGEST_PAUSE", PAUSES[1])
    port, states = free_port(), []
    server = rtsp(port, "0xffff0000")  # red
    source = open_source(f"rtsp://me:secret@127.0.0.1:{port}/camera", on_state=states.append)
    assert isinstance(source, CameraSource)
    said: list[tuple[float, str]] = []
    model = Model(tiny_bundle)
    narrations = model.narrate(source)

    def listen() -> None:
        for narration in narrations:
            said.append((time.monotonic(), narration.text))

    listener = threading.Thread(target=listen)
    listener.start()
    wait_for(lambda: [text for _, text in said] == ["a red screen"], 120)
    server.kill()
    server.wait()
    wait_for(lambda: states[-1:] == ["lost"], 60)
    time.sleep(away)  # five seconds have gone by until it was taken for lost
    assert states[-1] == "lost"
    rtsp(port, "0xff0000ff")  # blue
    wait_for(lambda: said[-1][1] == "blue", 120)
    assert states == ["live", "lost", "live"] and source.restarts >= 1
    source.close()
    listener.join(60)
    assert not listener.is_alive()


def wait_for(true: Callable[[], bool], seconds: float) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "it never came"
        time.sleep(0.02)


@pytest.fixture
def http() -> Iterator[tuple[str, dict[str, bytes]]]:
    """A server of files, and of an endless MJPEG stream at /live that ends its connections after 20 pictures.
    /hang hangs after 12."""
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    files: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path in ("/live", "/hang"):
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=b")
                self.end_headers()
                for number in range(20):
                    good, jpeg = import_opencv().imencode(".jpg", np.full((48, 64, 3), (0, 0, 255), np.uint8))
                    assert good
                    data = b"not a picture" if number == 5 else jpeg.tobytes()
                    self.wfile.write(b"--b\r\nContent-Type: image/jpeg\r\n\r\n" + data + b"\r\n")
                    time.sleep(0.05 if self.path == "/live" or number < 12 else 60)
                return
            data = files.get(self.path)
            self.send_response(200 if data is not None else 404)
            self.send_header("Content-Length", str(len(data or b"")))
            self.end_headers()
            self.wfile.write(data or b"")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", files
    server.shutdown()


def test_mjpeg_over_http_is_live_and_comes_back(http: tuple[str, dict[str, bytes]]) -> None:
    source = open_source(f"{http[0]}/live")
    assert isinstance(source, CameraSource) and source.live
    with closing(source):
        frames = list(islice(source, 24))
    assert source.restarts >= 1
    assert all(frame.image[..., 2].mean() > 240 > 20 > frame.image[..., 0].mean() for frame in frames)


def test_a_recording_over_http_is_read_whole(
    http: tuple[str, dict[str, bytes]], make_video: Callable[..., Path]
) -> None:
    recording = make_video([((0, 0, 255), 2), ((255, 0, 0), 2)], name="r.mp4")
    http[1]["/r.mp4"] = recording.read_bytes()
    source = open_source(f"{http[0]}/r.mp4")
    with closing(source):
        assert isinstance(source, VideoFile) and not source.live
        assert len(list(source)) == len(list(VideoFile(recording)))
        assert source.incomplete is None


def test_a_reader_outlives_the_thread_that_started_it(http: tuple[str, dict[str, bytes]]) -> None:
    """As when the settings of a channel change: another pass, in other threads, reads on."""
    source = open_source(f"{http[0]}/live", keep_trying=True)
    assert isinstance(source, CameraSource)
    frames, seen = iter(source), list[float]()
    with closing(source):
        for _ in range(3):
            thread = threading.Thread(target=lambda: seen.append(next(frames).time))
            thread.start()
            thread.join(120)
            time.sleep(0.1)
    assert len(seen) == 3 and source.restarts == 0


def test_a_reader_dies_with_its_parent(http: tuple[str, dict[str, bytes]]) -> None:
    program = f"""
import os, time
from vlj_edge.runtime.video.uri import open_source
source = open_source("{http[0]}/hang")
time.sleep(1.5)  # it hangs in a read by now, and so does not see that nobody takes its frames
print(source._reader._process.pid, flush=True)
os.kill(os.getpid(), 9)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    reader = Path("/proc") / done.stdout.strip()
    wait_for(lambda: not reader.exists() or "Z (zombie)" in (reader / "status").read_text(), 120)


# --- stdin


def piped(uri: str, data: bytes, tmp_path: Path) -> list[str]:
    program = f"""
from vlj_edge import VljEdgeError
from vlj_edge.runtime.video.uri import open_source
try:
    source = open_source({uri!r})
    for frame in source:
        print(round(frame.time, 3), frame.image.shape, *frame.image.mean((0, 1)).round().astype(int))
    print("bad", source.bad, "live", source.live)
except VljEdgeError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], input=data, capture_output=True, check=True)
    assert done.stderr == b""
    return done.stdout.decode().splitlines()


def jpeg(colour: tuple[int, int, int]) -> bytes:
    return bytes(import_opencv().imencode(".jpg", np.full((48, 64, 3), colour, np.uint8))[1])


@pytest.mark.parametrize("between", [b"", b"\r\n--boundary\r\nContent-Type: image/jpeg\r\n\r\n"])
def test_jpegs_on_stdin(tmp_path: Path, between: bytes) -> None:
    pictures = [jpeg((0, 0, 254)), jpeg((254, 0, 0)), jpeg((0, 254, 0))]
    damaged = pictures[1][:2] + b"\xff" + bytes(100) + b"\xff\xd9"
    lines = piped("-?rate=4", between.join([*pictures[:2], damaged, pictures[2]]), tmp_path)
    assert [line.split(" ", 1)[0] for line in lines[:3]] == ["0.0", "0.25", "0.5"]
    assert lines[0].endswith("(48, 64, 3) 0 0 254") and lines[-1] == "bad 1 live False"
    assert piped("-", pictures[0], tmp_path)[-1] == "bad 0 live True"


@pytest.mark.parametrize("form", ["bgr24", "rgb24", "gray", "yuv420p"])
def test_raw_pictures_on_stdin(tmp_path: Path, form: str) -> None:
    cv2, image = import_opencv(), np.full((4, 6, 3), (10, 130, 250), np.uint8)
    raw = {
        "bgr24": image,
        "rgb24": image[..., ::-1],
        "gray": image[..., :1],
        "yuv420p": cv2.cvtColor(image, cv2.COLOR_BGR2YUV_I420),
    }[form].tobytes()
    lines = piped(f"-?size=6x4&rate=10&format={form}", raw * 3 + raw[:5], tmp_path)
    assert [line.split(" ", 1)[0] for line in lines[:3]] == ["0.0", "0.1", "0.2"] and len(lines) == 4
    colours = [int(number) for number in re.findall(r"\d+", lines[0].partition(")")[2])]
    wanted = [10, 10, 10] if form == "gray" else [10, 130, 250]
    assert np.abs(np.subtract(colours, wanted)).max() <= 4


def test_nothing_on_stdin_is_one_line(tmp_path: Path) -> None:
    for data in (b"", b"text\n" * 50):
        assert "stdin gives no picture: write JPEGs to it" in piped("-", data, tmp_path)[0]


def test_the_reader_is_in_no_process_list(http: tuple[str, dict[str, bytes]]) -> None:
    address = http[0].replace("http://", "http://me:hunter2@") + "/live"
    with closing(open_source(address)) as source:
        assert isinstance(source, CameraSource) and source._reader is not None
        shown = Path(f"/proc/{source._reader._process.pid}/cmdline").read_bytes()
        assert b"camera_process" in shown and b"hunter2" not in shown
        assert len(list(islice(source, 2))) == 2


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
def test_hls_is_read(http: tuple[str, dict[str, bytes]], make_video: Callable[..., Path], tmp_path: Path) -> None:
    film = make_video([((0, 0, 255), 3), ((255, 0, 0), 3)], name="film.mp4")
    cut = ["-c:v", "mpeg2video", "-q:v", "2", "-g", "25", "-hls_time", "1", "-hls_list_size", "0"]
    command = ["ffmpeg", "-loglevel", "error", "-i", film, *cut, tmp_path / "film.m3u8"]
    subprocess.run(command, check=True)
    http[1].update({f"/{path.name}": path.read_bytes() for path in tmp_path.glob("film*.*")})
    with closing(open_source(f"{http[0]}/film.m3u8")) as source:
        frames = list(islice(source, 150))
    assert len(frames) > 100 and not isinstance(source, CameraSource), "a list with an end is a recording"
    assert frames[10].image[..., 2].mean() > 200 > 60 > frames[-10].image[..., 2].mean()
    live = http[1]["/film.m3u8"].replace(b"#EXT-X-ENDLIST", b"").replace(b"#EXT-X-PLAYLIST-TYPE:VOD", b"")
    http[1]["/live.m3u8"] = live
    with closing(open_source(f"{http[0]}/live.m3u8")) as source:
        assert isinstance(source, CameraSource) and next(iter(source)).image.shape == (48, 64, 3)
