"""Clips of alerts: the last seconds of each camera, bounded in memory, and an MP4 that another program can play."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from tests.waiting import wait_for
from vlj_edge.runtime.alerts import clips
from vlj_edge.runtime.alerts.clips import ClipKeeper, PictureRing, make_clip

RED, BLUE = (0, 0, 255), (255, 0, 0)


def image(colour: tuple[int, int, int] = RED, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    return np.full((*size, 3), colour, np.uint8)


def jpeg(*of: object, **how: object) -> bytes:
    stream = io.BytesIO()
    PIL.Image.fromarray(image(*of, **how)[..., ::-1]).save(stream, "JPEG")  # type: ignore[arg-type]
    return stream.getvalue()


def test_a_ring_keeps_the_last_seconds_and_the_same_picture_once() -> None:
    ring = PictureRing(2.0)
    for at in range(10):
        picture = image()
        ring.add(float(at), picture)
        ring.add(at + 0.5, picture)
    assert [at for at, _ in ring.between(0, 100)] == [7.0, 8.0, 9.0] and len(ring.between(7.5, 8.5)) == 1


def test_a_ring_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clips, "MOST_BYTES", 50_000)
    rng, ring = np.random.default_rng(0), PictureRing(1e6)
    for at in range(20):
        ring.add(float(at), rng.integers(0, 255, (96, 96, 3), np.uint8))
    kept = ring.between(0, 100)
    assert 2 < len(kept) < 20 and sum(len(data) for _, data in kept) <= 50_000 and kept[-1][0] == 19.0


@pytest.mark.skipif(shutil.which("ffprobe") is None, reason="needs ffprobe: apt install ffmpeg")
def test_a_clip_is_a_whole_mp4_with_the_times_of_its_pictures(tmp_path: Path) -> None:
    pictures = [(100 + 0.2 * i, jpeg(RED if i < 10 else BLUE, size=(48, 64) if i else (45, 63))) for i in range(20)]
    (tmp_path / "clip.mp4").write_bytes(make_clip(pictures))
    shown = "stream=codec_name,nb_read_frames,duration:format=format_name"
    command = ["ffprobe", "-v", "error", "-count_frames", "-show_entries", shown, "-of", "json", tmp_path / "clip.mp4"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    [stream] = found["streams"]
    assert (
        stream["codec_name"] == "h264"
        and int(stream["nb_read_frames"]) == 20
        and "mp4" in found["format"]["format_name"]
    )
    assert float(stream["duration"]) == pytest.approx(4.0, abs=0.05) and done.stderr == ""


class Scene:
    """A camera whose newest picture changes with each look, or no longer."""

    dead = False

    def __init__(self) -> None:
        self.looks, self._last = 0, image()

    def __call__(self, source: str) -> np.ndarray | None:
        self.looks += 1
        if not self.dead:
            self._last = image((self.looks % 256, 0, 0))
        return self._last


def test_a_clip_shows_before_and_after(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clips, "PERIOD", 0.01)
    made, given = list[bytes](), list[list[float]]()
    monkeypatch.setattr(clips, "make_clip", lambda pictures: given.append([at for at, _ in pictures]) or b"MP4")
    with ClipKeeper(Scene()) as keeper:
        keeper.keep({"hall": 60.0})
        wait_for(lambda: len(keeper._rings["hall"].between(0, np.inf)) > 10)
        now = time.monotonic()
        keeper.cut("hall", now - 60, now + 0.1, made.append)
        keeper.cut("nowhere", now, now, made.append)
        wait_for(lambda: made)
    [times] = given
    assert made == [b"MP4"] and min(times) < now < max(times) <= now + 0.1


def test_a_camera_that_dies_in_an_alert_leaves_what_it_showed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clips, "PERIOD", 0.01)
    scene, made = Scene(), list[bytes]()
    with ClipKeeper(scene) as keeper:
        keeper.keep({"hall": 60.0})
        wait_for(lambda: len(keeper._rings["hall"].between(0, np.inf)) > 3)
        scene.dead = True
        keeper.cut("hall", 0.0, time.monotonic() + 0.05, made.append)
        wait_for(lambda: made)
        looks = scene.looks
        wait_for(lambda: scene.looks > looks)  # and it goes on
    assert b"ftyp" in made[0][:16]


def test_closing_makes_clips_that_are_not_over_and_leaves_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clips, "PERIOD", 0.01)
    monkeypatch.setattr(clips, "_GRACE", 60.0)
    monkeypatch.setattr(clips, "make_clip", lambda pictures: b"MP4")
    made = list[bytes]()
    with ClipKeeper(Scene()) as keeper:
        keeper.keep({"hall": 60.0})
        wait_for(lambda: keeper._rings["hall"].between(0, np.inf))
        keeper.cut("hall", 0.0, time.monotonic() + 3600, made.append)
    assert made == [b"MP4"]
    keeper.keep({"hall": 60.0})
    keeper.cut("hall", 0.0, 0.0, made.append)  # after the end nothing begins
    keeper.close()
    assert not [each for each in threading.enumerate() if each.name in ("keep pictures", "clip")]


def test_a_source_that_fails_and_a_full_disk_end_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(clips, "PERIOD", 0.01)
    scene, made = Scene(), list[bytes]()

    def latest(source: str) -> np.ndarray | None:
        if source == "broken":
            raise RuntimeError("no picture")
        return scene(source)

    def full(pictures: object) -> bytes:
        raise OSError(28, "No space left on device")

    with ClipKeeper(latest) as keeper:
        keeper.keep({"broken": 60.0, "hall": 60.0})
        wait_for(lambda: keeper._rings["hall"].between(0, np.inf))
        with monkeypatch.context() as patch:
            patch.setattr(clips, "make_clip", full)
            keeper.cut("hall", 0.0, time.monotonic(), made.append)
            wait_for(lambda: "No space" in caplog.text)
        keeper.cut("broken", 0.0, 0.0, made.append)
        keeper.cut("hall", 0.0, time.monotonic(), made.append)
        wait_for(lambda: made)
    assert len(made) == 1
