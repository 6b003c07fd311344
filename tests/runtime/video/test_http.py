"""What is behind an http address: recordings however they are served, snapshots, MJPEG, HLS; passwords; redirects."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from urllib.parse import quote

import numpy as np
import PIL.Image
import pytest

from tests.waiting import wait_for
from vlj_edge import VljEdgeError
from vlj_edge.runtime.model import Model
from vlj_edge.runtime.service.settings import SourceSettings
from vlj_edge.runtime.service.station import Station
from vlj_edge.runtime.video.cameras.camera import CameraSource
from vlj_edge.runtime.video.network import http_body, http_client
from vlj_edge.runtime.video.recordings.files import VideoFile
from vlj_edge.runtime.video.uri import open_source

from .media_server import MediaServer, media_server

FFMPEG = shutil.which("ffmpeg")
pytestmark = pytest.mark.skipif(FFMPEG is None, reason="ffmpeg is not installed")
CONTAINERS = {
    "moov_last.mp4": [],
    "faststart.mp4": ["-movflags", "+faststart"],
    "fragmented.mp4": ["-movflags", "+frag_keyframe+empty_moov"],
    "live.mkv": ["-f", "matroska", "-live", "1"],
    "film.ts": [],
    "film.avi": [],
    "film.webm": ["-c:v", "libvpx"],
}
SECRET = "p@ss/w?rd% [1]:#\u00fc"


@pytest.fixture
def media() -> Iterator[MediaServer]:
    with media_server() as server:
        yield server


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The same two seconds in several containers, larger than what is read at once."""
    folder = tmp_path_factory.mktemp("films")
    for name, options in CONTAINERS.items():
        pictures = ["-f", "lavfi", "-i", "testsrc2=size=320x240:rate=25:duration=2,noise=alls=20"]
        encoded = ["-c:v", "mpeg4", "-q:v", "4", "-fflags", "+bitexact", *options, folder / name]
        subprocess.run([str(FFMPEG), "-loglevel", "error", *pictures, *encoded], check=True)
    return {name: (folder / name).read_bytes() for name in CONTAINERS}


def jpeg(value: int, size: tuple[int, int] = (64, 48)) -> bytes:
    data = io.BytesIO()
    PIL.Image.new("RGB", size, (value, value, value)).save(data, "JPEG")
    return data.getvalue()


@pytest.mark.parametrize("way", ["range", "plain", "chunked", "close", "slow", "cut"])
@pytest.mark.parametrize("name", CONTAINERS)
def test_a_recording_is_read_once_and_whole(
    media: MediaServer,
    films: dict[str, bytes],
    name: str,
    way: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_body, "_PAUSES", (0.0, 0.01, 0.01))
    media.files[name] = films[name]
    (tmp_path / name).write_bytes(films[name])
    here = list(VideoFile(tmp_path / name))
    with closing(open_source(f"{media.url}/{way}/{name}", keep_trying=True)) as source:
        assert not source.live and source.incomplete is None
        frames = list(source)
        assert source.incomplete is None
        assert [f.time for f in frames] == [f.time for f in here] and len(frames) == 50
        assert np.array_equal(frames[-1].image, here[-1].image)
    if way in ("plain", "chunked", "close", "slow"):
        assert len(media.asked) == 1


def test_a_recording_begins_before_it_has_arrived(media: MediaServer, films: dict[str, bytes]) -> None:
    media.files["film.ts"] = films["film.ts"]
    with closing(open_source(f"{media.url}/hang/film.ts")) as source:
        frames = iter(source)
        assert next(frames).image.shape == (240, 320, 3)
        reader = threading.Thread(target=lambda: list(frames))
        reader.start()
        time.sleep(0.3)  # it has read the first half, and waits
        started = time.monotonic()
        source.close()
        reader.join(60)
        assert not reader.is_alive() and time.monotonic() - started < 3
        assert source.incomplete is None


def test_a_recording_that_breaks_off_gives_what_came(
    media: MediaServer, films: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_body, "_PAUSES", (0.0, 0.01))
    media.files["film.ts"] = films["film.ts"]
    with closing(open_source(f"{media.url}/broken/film.ts")) as source:
        assert 10 < len(list(source)) < 40
        assert "film.ts" in str(source.incomplete) and "broke off" in str(source.incomplete)


def test_the_copy_of_a_recording_is_removed_and_leaves_room(
    media: MediaServer, films: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    media.files["a.mp4"] = films["moov_last.mp4"]
    open_files = len(os.listdir("/proc/self/fd"))
    with closing(open_source(f"{media.url}/chunked/a.mp4")) as source:
        assert any(
            str(tmp_path) in os.readlink(f"/proc/self/fd/{n}")
            for n in os.listdir("/proc/self/fd")
            if int(n) > 2 and os.path.lexists(f"/proc/self/fd/{n}")
        )
        assert len(list(source)) == 50
    assert not os.listdir(tmp_path)
    wait_for(lambda: len(os.listdir("/proc/self/fd")) <= open_files + 1, 10)  # the server closes its end
    monkeypatch.setattr(http_body, "_LEAST_FREE", 1 << 60)
    with pytest.raises(VljEdgeError, match="no room"):
        open_source(f"{media.url}/chunked/a.mp4")


def test_a_part_of_a_recording(media: MediaServer, films: dict[str, bytes]) -> None:
    for way, name in [("range", "faststart.mp4"), ("chunked", "film.ts"), ("plain", "moov_last.mp4")]:
        media.files[name] = films[name]
        with closing(open_source(f"{media.url}/{way}/{name}", start=1.0, end=1.5)) as source:
            times = [frame.time for frame in source]
            assert times[0] == pytest.approx(1.0, abs=0.041) and 11 <= len(times) <= 14


def test_a_recording_can_be_read_again_for_its_sound(media: MediaServer, tmp_path: Path) -> None:
    made = ["-f", "lavfi", "-i", "testsrc2=size=64x48:duration=1", "-f", "lavfi", "-i", "sine=duration=1"]
    encoded = ["-c:v", "mpeg4", "-c:a", "aac", tmp_path / "a.mp4"]
    subprocess.run([str(FFMPEG), "-loglevel", "error", *made, *encoded], check=True)
    media.files["a.mp4"] = (tmp_path / "a.mp4").read_bytes()
    with closing(open_source(f"{media.url}/plain/a.mp4")) as source:
        assert isinstance(source, VideoFile) and source.rereadable
        assert len(list(source)) == 25
        sound = source.sound()
        assert sound is not None and sum(frame.samples for frame in sound.frames()) >= sound.rate * 0.9
        sound.close()


@pytest.mark.parametrize("real_time", [False, True])
def test_a_recording_in_a_station_is_fetched_once(
    media: MediaServer, make_video: Callable[..., Path], tiny_bundle: Path, real_time: bool
) -> None:
    media.files["a.mkv"] = make_video([((0, 0, 255), 2), ((255, 0, 0), 2)], name="a.mkv").read_bytes()
    heard: list[str] = []
    station = Station(
        Model(tiny_bundle),
        [SourceSettings("a", f"{media.url}/slow/a.mkv")],
        on_event=lambda event: heard.append(event.narration.text),
        real_time=real_time,
    )
    station.start()
    station.wait(0.01)
    station.stop()
    assert len(heard) == 2 and len(media.asked) == 1
    assert station.channels["a"].state == "ended" and station.channels["a"].error is None


@pytest.mark.usefixtures("short_pauses")
def test_a_station_says_why_a_camera_gives_no_picture(media: MediaServer, tiny_bundle: Path) -> None:
    media.log_in, media.snapshot = ("Basic", "me", "hunter2"), lambda: jpeg(50)
    address = f"{media.url}/snap".replace("://", "://me:hunter3@")
    station = Station(Model(tiny_bundle), [SourceSettings("a", address)], keep_trying=True)
    station.start()
    try:
        channel = station.channels["a"]
        wait_for(lambda: channel.state == "lost", 60)
        assert "401" in str(channel.problem) and "hunter" not in str(channel.problem)
        media.log_in = None
        wait_for(lambda: channel.state == "live", 60)
        assert channel.problem is None
    finally:
        station.stop()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_a_certificate_is_checked(films: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    made = ["-newkey", "rsa:2048", "-nodes", "-keyout", tmp_path / "key.pem", "-out", tmp_path / "certificate.pem"]
    subprocess.run(["openssl", "req", "-x509", "-days", "2", *made, *names], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate.pem", tmp_path / "key.pem")
    with media_server(context=context) as media:
        media.files |= films
        with pytest.raises(VljEdgeError, match="certificate is not trusted"):
            open_source(f"{media.url}/range/moov_last.mp4")
        assert not media.asked
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
        with closing(open_source(f"{media.url}/range/moov_last.mp4")) as source:
            assert len(list(source)) == 50
        with closing(open_source(f"{media.url}/hang/film.ts")) as source:
            frames = iter(source)
            next(frames)
            reader = threading.Thread(target=lambda: list(frames))
            reader.start()
            time.sleep(0.3)
            source.close()
            reader.join(5)
            assert not reader.is_alive() and source.incomplete is None


@pytest.mark.usefixtures("short_pauses")
def test_snapshots_are_polled_as_a_camera(media: MediaServer) -> None:
    count = 0

    def next_picture() -> bytes:
        nonlocal count
        count += 1
        return jpeg(min(10 * count, 255)) if count != 4 else b"no picture"

    media.snapshot, states = next_picture, []
    source = open_source(f"{media.url}/snap", sampled_at=20.0, on_state=states.append)
    with closing(source):
        assert isinstance(source, CameraSource) and source.live
        frames = iter(source)
        seen = [int(frame.image[0, 0, 0]) for frame in islice(frames, 6)]
        assert seen == sorted(seen) and len(set(seen)) == 6 and source.bad == 1
        assert media.connections <= 3, "the connection is kept"
        media.status = 503
        listener = threading.Thread(target=lambda: seen.extend(int(f.image[0, 0, 0]) for f in islice(frames, 8)))
        listener.start()
        wait_for(lambda: states[-1] == "lost", 60)
        media.status = 200
        listener.join(60)
        assert not listener.is_alive() and states[:3] == ["live", "lost", "live"] and source.restarts >= 1


def test_a_snapshot_that_has_not_changed_is_not_sent_again(media: MediaServer) -> None:
    sent: list[int] = []

    def picture() -> bytes:
        sent.append(1)
        return jpeg(100)

    media.snapshot, media.tag = picture, lambda: '"same"'
    with closing(open_source(f"{media.url}/snap", sampled_at=20.0)) as source:
        times = [frame.time for frame in islice(source, 5)]
    assert times == sorted(times) and len(set(times)) == 5 and len(sent) <= 3


def test_snapshots_are_asked_for_at_the_rate_that_is_sampled(media: MediaServer) -> None:
    media.snapshot = lambda: jpeg(100)
    with closing(open_source(f"{media.url}/snap", sampled_at=4.0)) as source:
        times = [frame.time for frame in islice(source, 5)]
    assert np.diff(times).min() > 0.15


def test_an_mjpeg_stream_gives_its_first_picture_at_once(media: MediaServer) -> None:
    media.snapshot = lambda: jpeg(200)
    started = time.monotonic()
    with closing(open_source(f"{media.url}/mjpeg")) as source:
        assert isinstance(source, CameraSource)
        assert next(iter(source)).image.mean() == pytest.approx(200, abs=2)
        assert time.monotonic() - started < 10


@pytest.mark.parametrize(
    "part",
    [
        (b"--b\r\nContent-Type: image/jpg\r\n\r\n", b"\r\n"),
        (b"--b\nContent-Length: 7\n\n", b""),
        (b"", b"--b\r\nContent-Type: image/jpeg\r\n\r\n"),
        (b"", b""),
        (b"--b\r\n\r\nno picture\r\n--b\r\nContent-Type: image/jpeg; x=y\r\n\r\n", bytes(3000)),
    ],
)
def test_whatever_stands_between_jpegs(media: MediaServer, part: tuple[bytes, bytes]) -> None:
    values = iter(range(100, 200))
    media.snapshot, media.part = lambda: jpeg(next(values)), part
    with closing(open_source(f"{media.url}/mjpeg")) as source:
        assert isinstance(source, CameraSource) and not source.bad
        seen = [round(float(frame.image.mean())) for frame in islice(source, 3)]
    assert seen == sorted(seen) and len(set(seen)) == 3


def test_a_recording_that_was_not_there_at_first_is_played_once(media: MediaServer, films: dict[str, bytes]) -> None:
    media.files["film.ts"], media.status = films["film.ts"], 503
    with closing(open_source(f"{media.url}/chunked/film.ts", keep_trying=True)) as source:
        media.status = 200
        times = [frame.time for frame in source]
        assert 1.0 < times[-1] < 4.0, "in real time"
        assert len([path for path in media.paths() if path]) <= 3


@pytest.mark.parametrize("kind", ["Basic", "Digest"])
@pytest.mark.parametrize("path", ["/snap", "/mjpeg", "/range/moov_last.mp4"])
def test_passwords_are_percent_decoded(media: MediaServer, films: dict[str, bytes], kind: str, path: str) -> None:
    media.log_in, media.snapshot = (kind, "ad#min", SECRET), lambda: jpeg(50)
    media.files |= films
    address = f"{media.url}{path}".replace("://", f"://{quote('ad#min', safe='')}:{quote(SECRET, safe='')}@")
    with closing(open_source(address)) as source:
        assert len(list(islice(source, 3))) == 3
    with pytest.raises(VljEdgeError, match=r"401.*password") as caught:
        open_source(address.replace("ad%23min", "hunter2"))
    assert "hunter2" not in str(caught.value) and "rd%" not in str(caught.value)


def test_a_password_goes_to_its_own_host_only(media: MediaServer, films: dict[str, bytes]) -> None:
    with media_server() as other:
        other.files |= films
        address = f"{media.url}/to/{other.url}/range/film.ts".replace("://", "://me:hunter2@", 1)
        with closing(open_source(address)) as source:
            assert len(list(source)) == 50
        assert all("Authorization" not in headers for _, headers in other.asked)


@pytest.mark.parametrize(
    ("address", "nearness"),
    [
        ("8.8.8.8", 0),
        ("2001:4860:4860::8888", 0),
        ("192.168.1.9", 1),
        ("10.0.0.1", 1),
        ("100.64.0.1", 1),
        ("fd00::1", 1),
        ("127.0.0.1", 2),
        ("::1", 2),
        ("::ffff:127.0.0.1", 2),
        ("169.254.169.254", 2),
        ("fe80::1%eth0", 2),
    ],
)
def test_how_near_an_address_is(address: str, nearness: int) -> None:
    assert http_client._nearness(address) == nearness


@pytest.mark.parametrize("way", ["redirect", "playlist"])
def test_a_server_on_the_internet_does_not_lead_to_this_machine(
    media: MediaServer, films: dict[str, bytes], way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with media_server("127.0.0.2") as inside:
        inside.files |= films
        target = f"{inside.url}/range/film.ts"
        media.files["list.m3u8"] = f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{target}\n".encode()
        address = f"{media.url}/to/{target}" if way == "redirect" else f"{media.url}/plain/list.m3u8"
        monkeypatch.setattr(http_client, "_nearness", {"127.0.0.1": 0, "127.0.0.2": 2}.__getitem__)
        with pytest.raises(VljEdgeError, match=r"leads to 127\.0\.0\.2"):
            open_source(address)
        assert inside.asked == []
        monkeypatch.setattr(http_client, "_nearness", {"127.0.0.1": 2, "127.0.0.2": 0}.__getitem__)
        if way == "redirect":
            with closing(open_source(address)) as source:
                assert len(list(source)) == 50


@pytest.mark.parametrize(
    "target", ["file:///etc/passwd", "ftp://127.0.0.1/a.mp4", "data:video/mp4,abc", "concat:/etc/passwd"]
)
def test_a_redirect_leads_to_http_only(media: MediaServer, target: str) -> None:
    with pytest.raises(VljEdgeError, match="redirected"):
        open_source(f"{media.url}/to/{target}")


@pytest.mark.parametrize("target", ["http://[::1", "http://a..b/x", f"http://{'a' * 70}.example/", "//["])
def test_a_redirect_to_no_address_is_refused(media: MediaServer, target: str) -> None:
    with pytest.raises(VljEdgeError, match="an address that is none"):
        open_source(f"{media.url}/to/{target}")


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (gzip.compress(bytes(9000), mtime=0), "gzip"),
        (b"\n<!DOCTYPE html><title>Log in</title>", "web page"),
        (b"<html><body>Log in</body>", "web page"),
    ],
)
def test_what_is_no_video_is_named(media: MediaServer, body: bytes, what: str) -> None:
    media.files["x.mp4"] = body
    with pytest.raises(VljEdgeError, match=what):
        open_source(f"{media.url}/plain/x.mp4")


def test_a_length_beyond_all_measure_is_ignored(media: MediaServer, films: dict[str, bytes]) -> None:
    media.files |= films
    media.headers["Content-Length"] = str(10**30)
    with open_source(f"{media.url}/close/film.ts") as source:
        assert len(list(source)) == 50


def test_redirects_in_a_circle_end(media: MediaServer) -> None:
    media.files = {}
    with pytest.raises(VljEdgeError, match="redirected"):
        open_source(f"{media.url}/to/" + "/to/" * 30 + "x")


def test_a_server_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch, media: MediaServer) -> None:
    monkeypatch.setattr(http_client, "TIMEOUT", 0.3)

    def say_nothing() -> bytes:
        media.stopped.wait(60)
        return b""

    media.snapshot = say_nothing
    with pytest.raises(VljEdgeError, match=r"does not answer.*network"):
        open_source(f"{media.url}/snap")


def segments(folder: Path, *options: str) -> Path:
    pictures = ["-f", "lavfi", "-i", "testsrc2=size=160x120:rate=25:duration=4"]
    cut = ["-c:v", "mpeg2video", "-g", "25", "-hls_time", "1", "-hls_list_size", "0", *options]
    subprocess.run([str(FFMPEG), "-loglevel", "error", *pictures, *cut, folder / "film.m3u8"], check=True)
    return folder


def test_hls(media: MediaServer, tmp_path: Path) -> None:
    segments(tmp_path)
    media.files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    media.files["best.m3u8"] = (
        b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1000,RESOLUTION=16x12\nnowhere.m3u8\n"
        b"#EXT-X-STREAM-INF:AVERAGE-BANDWIDTH=1,BANDWIDTH=90000,RESOLUTION=160x120\nfilm.m3u8\n"
    )
    for name in ("film.m3u8", "best.m3u8"):
        with closing(open_source(f"{media.url}/plain/{name}", keep_trying=True)) as source:
            assert isinstance(source, VideoFile) and len(list(source)) == 100 and source.incomplete is None
    assert media.paths().count("/plain/film0.ts") == 2
    with closing(open_source(f"{media.url}/to//plain/film.m3u8", start=2.0)) as source:
        assert next(iter(source)).time == pytest.approx(2.0, abs=0.05)
    media.files["live.m3u8"] = media.files["film.m3u8"].replace(b"#EXT-X-ENDLIST", b"")
    with closing(open_source(f"{media.url}/plain/live.m3u8")) as source:
        assert isinstance(source, CameraSource)
        times = [frame.time for frame in islice(source, 12)]
    assert np.diff(times).max() < 0.5 and np.diff(times).min() > 0.01, "not in bursts"


@pytest.mark.parametrize(
    "form",
    [
        "file://{0}",
        "{0}",
        "concat:{0}",
        "subfile,,start,0,end,0,,:{0}",
        "crypto:{0}",
        "crypto+file://{0}",
        "data:text/plain,a",
        "pipe:0",
        "tcp://127.0.0.1:9",
        "../../../../../../../..{0}",
    ],
)
@pytest.mark.parametrize("what", ["segment", "variant", "key", "map", "concat", "sdp"])
def test_nothing_remote_reaches_a_file(media: MediaServer, tmp_path: Path, form: str, what: str) -> None:
    """What a playlist names is a FIFO: to open it would wait for ever, and be seen by whoever writes to it."""
    fifo = tmp_path / "secret.ts"
    os.mkfifo(fifo)
    place = form.format(fifo)
    key = f'#EXT-X-KEY:METHOD=AES-128,URI="{place}"\n' if what == "key" else ""
    part = f'#EXT-X-MAP:URI="{place}"\n' if what == "map" else ""
    media.files["a.m3u8"] = {
        "variant": f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{place}\n",
        "concat": f"ffconcat version 1.0\nfile '{place}'\n",
        "sdp": f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns={place}\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 26\n",
    }.get(what, f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n{key}{part}#EXTINF:1,\n{place}\n#EXT-X-ENDLIST\n").encode()
    opened = []

    def watch() -> None:
        with fifo.open("wb"):
            opened.append(1)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    with pytest.raises(VljEdgeError) as caught:
        open_source(f"{media.url}/plain/a.m3u8")
    assert "\n" not in str(caught.value) and not opened
    os.close(os.open(fifo, os.O_RDONLY))  # lets the watcher go
    watcher.join(60)


@pytest.mark.parametrize("name", ["a.m3u8", "a.ffconcat", "a.sdp", "a.mp4"])
def test_a_local_playlist_does_not_reach_the_network(media: MediaServer, tmp_path: Path, name: str) -> None:
    address = f"{media.url}/plain/film.ts"
    (tmp_path / name).write_text(
        {
            "a.ffconcat": f"ffconcat version 1.0\nfile '{address}'\n",
            "a.sdp": f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\na=control:{address}\n"
            "m=video 9 RTP/AVP 26\n",
        }.get(name, f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{address}\n#EXT-X-ENDLIST\n")
    )
    with pytest.raises(VljEdgeError, match=name):
        open_source(tmp_path / name)
    assert not media.asked
