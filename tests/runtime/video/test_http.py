"""What is behind an http address: recordings however they are served, snapshots, MJPEG."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import closing
from itertools import islice
from pathlib import Path

import numpy as np
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

from .http_films import CONTAINERS, FFMPEG, jpeg
from .media_server import MediaServer

pytestmark = pytest.mark.skipif(FFMPEG is None, reason="ffmpeg is not installed")


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


def test_a_recording_begins_before_it_has_arrived(
    media: MediaServer, films: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_client, "TIMEOUT", 600.0)
    media.files["film.ts"] = films["film.ts"]
    with closing(open_source(f"{media.url}/hang/film.ts")) as source:
        frames = iter(source)
        assert next(frames).image.shape == (240, 320, 3)
        reader = threading.Thread(target=lambda: list(frames))
        reader.start()
        time.sleep(0.3)  # it has read the first half, and waits
        source.close()
        reader.join(60)
        assert not reader.is_alive(), "it was waiting for what comes next"
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
