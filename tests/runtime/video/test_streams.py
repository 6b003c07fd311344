"""Streams from real servers: MJPEG, HLS and recordings over HTTP, and RTSP."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest

from tests.waiting import free_port, wait_for
from vlj_edge import VljEdgeError
from vlj_edge.runtime.model import Model
from vlj_edge.runtime.video.cameras import reader_process
from vlj_edge.runtime.video.cameras.camera import CameraSource
from vlj_edge.runtime.video.cameras.opencv import import_opencv
from vlj_edge.runtime.video.recordings.files import VideoFile
from vlj_edge.runtime.video.uri import camera_address, open_source

HERE = Path(__file__).parent


def has_rtsp_server() -> bool:
    probe = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"
    python = Path("/usr/bin/python3")
    return python.exists() and subprocess.run([python, "-c", probe], capture_output=True, check=False).returncode == 0


@pytest.fixture
def rtsp() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    if not has_rtsp_server():
        pytest.skip("GStreamer's RTSP server is not installed: apt install gir1.2-gst-rtsp-server-1.0")
    running: list[subprocess.Popen[str]] = []

    def serve(port: int, colour: str, *options: str) -> subprocess.Popen[str]:
        command = ["/usr/bin/python3", str(HERE / "rtsp_server.py"), str(port), colour, *options]
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
    rtsp: Callable[..., subprocess.Popen[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
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


def group_of_pictures(frames: int) -> list[str]:
    return ["--encoder", f"openh264enc gop-size={frames} ! rtph264pay"]


def test_a_long_group_of_pictures_is_shown_from_its_key_frame_on(rtsp: Callable[..., subprocess.Popen[str]]) -> None:
    port, started = free_port(), time.monotonic()
    rtsp(port, "0xffff0000", *group_of_pictures(6000), "--live", "false")  # the next key frame comes after 400 s
    with closing(open_source(f"rtsp://127.0.0.1:{port}/camera")) as source:
        assert next(iter(source)).image[..., 2].mean() > 240
    assert time.monotonic() - started < 120


def test_a_key_frame_is_waited_for_as_long_as_packets_come(rtsp: Callable[..., subprocess.Popen[str]]) -> None:
    port, states = free_port(), []
    rtsp(port, "0xffff0000", *group_of_pictures(120))  # the first client gets no key frame for 8 s
    address = camera_address(f"rtsp://127.0.0.1:{port}/camera")
    assert address is not None
    with closing(CameraSource(address, opening=5.0, on_state=states.append)) as source:
        frames = iter(source)
        assert next(frames).image[..., 2].mean() > 240
        assert states == ["waiting for a key frame", "live"] and source.restarts == 0


def test_a_stream_without_key_frames_says_so(
    rtsp: Callable[..., subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader_process, "_LONGEST_GROUP", 7.0)
    port = free_port()
    rtsp(port, "0xffff0000", *group_of_pictures(3000))
    with pytest.raises(VljEdgeError, match=r"camera sends .*key frame interval"):
        open_source(f"rtsp://127.0.0.1:{port}/camera")


@pytest.mark.parametrize("way", [[], ["--digest"]], ids=["basic", "digest"])
def test_an_rtsp_password_is_percent_decoded(way: list[str], rtsp: Callable[..., subprocess.Popen[str]]) -> None:
    port, user, password = free_port(), "ad#min", "p@ss/w?rd% [1]:\u00fc"
    rtsp(port, "0xffff0000", "--user", user, "--password", password, *way)
    secret = f"{quote(user, safe='')}:{quote(password, safe='')}"
    with closing(open_source(f"rtsp://{secret}@127.0.0.1:{port}/camera")) as source:
        assert isinstance(source, CameraSource) and source._reader is not None
        shown = Path(f"/proc/{source._reader._process.pid}/cmdline").read_bytes()
        assert b"camera_process" in shown and b"ss%2Fw" not in shown and b"p@ss" not in shown
        assert next(iter(source)).image[..., 2].mean() > 200
    with pytest.raises(VljEdgeError, match=r"\*\*\*@127.*401.*password") as caught:
        open_source(f"rtsp://hunter2:{quote(password, safe='')}@127.0.0.1:{port}/camera")
    assert "hunter2" not in str(caught.value) and "w%3Frd" not in str(caught.value)


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
@pytest.mark.parametrize("scheme", ["udp", "rtp", "rtmp"])
def test_other_protocols(scheme: str) -> None:
    port = free_port()
    made = ["-re", "-f", "lavfi", "-i", "testsrc2=size=160x120:rate=15", "-c:v", "flv1", "-g", "5"]
    sent = {
        "udp": ["-c:v", "mpeg2video", "-f", "mpegts", f"udp://127.0.0.1:{port}?pkt_size=1316"],
        "rtp": ["-c:v", "mpeg2video", "-f", "rtp_mpegts", f"rtp://127.0.0.1:{port}"],
        "rtmp": ["-f", "flv", "-listen", "1", f"rtmp://127.0.0.1:{port}/live/x"],
    }[scheme]
    with subprocess.Popen(["ffmpeg", "-loglevel", "error", *made, *sent]) as sender:
        try:
            path = "/live/x" if scheme == "rtmp" else ""
            with closing(open_source(f"{scheme}://127.0.0.1:{port}{path}", keep_trying=True)) as source:
                frames = list(islice(source, 8))
            assert {frame.image.shape for frame in frames} == {(120, 160, 3)} and frames[-1].time > 0.2
        finally:
            sender.kill()


@pytest.fixture
def http() -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yield the address of a server, and the files that it serves.

    /live is an MJPEG stream that ends after 20 frames, /hang one that hangs after 12.
    """
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    files: dict[str, bytes] = {}
    closing = threading.Event()

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
                    if closing.wait(0.05 if self.path == "/live" or number < 12 else 60):
                        return
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
    closing.set()
    server.shutdown()
    server.server_close()


@pytest.mark.usefixtures("short_pauses")
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
    """A channel whose settings change starts a new run, which reads on from another thread."""
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
from vlj_edge.runtime.video.uri import camera_address, open_source
source = open_source("{http[0]}/hang")
time.sleep(1.5)  # it hangs in a read by now, and so does not see that nobody takes its frames
print(source._reader._process.pid, flush=True)
os.kill(os.getpid(), 9)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    reader = Path("/proc") / done.stdout.strip()
    wait_for(lambda: not reader.exists() or "Z (zombie)" in (reader / "status").read_text(), 120)


def test_credentials_are_not_in_the_process_list(http: tuple[str, dict[str, bytes]]) -> None:
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
