"""Hardware decoders: chosen where they work, left with a line where they do not. FFmpeg's software, and
GStreamer's avdec_h264, stand for them."""

from __future__ import annotations

import logging
import subprocess
import sys
from contextlib import closing
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from vlj_edge import VljEdgeError
from vlj_edge.runtime.video.decoding import hardware, picture_decoder
from vlj_edge.runtime.video.decoding.gstreamer_decoder import GStreamerDecoder
from vlj_edge.runtime.video.decoding.hardware import AvHardware, candidates
from vlj_edge.runtime.video.uri import open_source


class Broken(AvHardware):
    """A driver that fails at one packet, or gives black pictures."""

    def __init__(self, stream: Any, fails_at: int = -1, black: bool = False) -> None:
        super().__init__(None, stream)
        self.left, self.black = fails_at, black

    def decode(self, packet: Any) -> list[Any]:
        if self.left == 0:
            raise av.error.ExternalError(1, "the card is gone")
        self.left -= 1
        pictures = super().decode(packet)
        for picture in pictures if self.black else ():
            for plane in picture.planes:
                plane.update(bytes(plane.buffer_size))
        return pictures


@pytest.fixture(params=["mp4", "ts", "mkv"])
def video(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Three seconds of H.264 with B-pictures, a key picture a second, and an odd height."""
    path = tmp_path / f"a.{request.param}"
    with av.open(str(path), "w") as container:
        options = {"g": "12", "bf": "2", "preset": "veryfast"}
        stream = container.add_stream("libx264", rate=12, width=98, height=54, pix_fmt="yuv420p", options=options)
        noise = np.random.default_rng(0).integers(0, 255, (7, 13, 3), np.uint8)
        for number in range(36):
            image = np.kron(np.roll(noise, number, 1), np.ones((8, 8, 1), np.uint8))[:54, :98].copy()
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        container.mux(stream.encode(None))
    return path


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(logging.getLogger("vlj_edge"), "propagate", True)
    caplog.set_level(logging.INFO, "vlj_edge")
    return caplog


def hardware_is(monkeypatch: pytest.MonkeyPatch, *found: tuple[str, Any]) -> None:
    monkeypatch.setattr(picture_decoder, "candidates", lambda stream: iter(found))


def frames(path: Path, **options: Any) -> list[tuple[float, np.ndarray]]:
    with closing(open_source(path, **options)) as source:
        found = [(frame.time, frame.image) for frame in source]
        assert source.incomplete is None
    return found


def assert_same(found: list[tuple[float, np.ndarray]], expected: list[tuple[float, np.ndarray]]) -> None:
    assert [time for time, _ in found] == [time for time, _ in expected]
    for (_, ours), (_, theirs) in zip(found, expected, strict=True):
        assert ours.shape == theirs.shape and np.abs(ours.astype(int) - theirs).max() <= 2


def test_hardware_that_works_is_used_and_gives_the_same(
    video: Path, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    expected = frames(video, decoder="software")
    hardware_is(monkeypatch, ("card", partial(AvHardware, None)))
    for options in ({}, {"decoder": "hardware"}, {"start": 1.5}):
        software = frames(video, **{**options, "decoder": "software"})
        log.clear()
        assert_same(frames(video, **options), software)
        [line] = [record.getMessage() for record in log.records]
        assert video.name in line and "card" in line
    assert len(expected) == 36


@pytest.mark.parametrize("fails_at", [0, 1, 14, 30])
def test_hardware_that_fails_is_left_with_one_line_and_nothing_is_lost(
    video: Path, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture, fails_at: int
) -> None:
    expected = frames(video, decoder="software")
    hardware_is(monkeypatch, ("card", partial(Broken, fails_at=fails_at)))
    log.clear()
    assert_same(frames(video), expected)
    [line] = [record.getMessage() for record in log.records if record.levelno == logging.WARNING]
    assert "card" in line and "the card is gone" in line and "--decoder" in line and video.name in line
    with pytest.raises(VljEdgeError, match=r"card .*the card is gone.*--decoder"):
        frames(video, decoder="hardware")


def test_hardware_that_gives_other_pictures_is_not_used(
    video: Path, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    expected = frames(video, decoder="software")
    hardware_is(monkeypatch, ("card", partial(Broken, black=True)))
    log.clear()
    assert_same(frames(video), expected)
    assert [r.getMessage() for r in log.records if r.levelno == logging.WARNING and "other pictures" in r.getMessage()]


def test_software_never_tries_hardware(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hardware_is(monkeypatch, ("card", lambda stream: pytest.fail("tried")))
    assert len(frames(video, decoder="software")) == 36


def test_streams_without_parameters_in_the_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.mpg"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg2video", rate=25, width=64, height=48, pix_fmt="yuv420p")
        for number in range(12):
            image = np.full((48, 64, 3), 20 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        container.mux(stream.encode(None))
    expected = frames(path, decoder="software")
    hardware_is(monkeypatch, ("card", partial(AvHardware, None)))
    assert_same(frames(path, decoder="hardware"), expected)


def test_hardware_that_is_not_there_is_one_line(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "_DEVICES", {"cuda": ("/nowhere",)})
    with pytest.raises(VljEdgeError, match=r"h264.*--decoder") as caught:
        open_source(video, decoder="hardware")
    assert video.name in str(caught.value) and "\n" not in str(caught.value)


def test_what_a_machine_seems_to_have(video: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(hardware, "_JETSON", ("/nowhere",))
    monkeypatch.setattr(hardware, "_DEVICES", {"cuda": (f"{tmp_path}/nvidia*",), "vaapi": ("/nowhere",)})
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        assert [name for name, _ in candidates(stream)] == []
        (tmp_path / "nvidiactl").touch()
        offered = "cuda" in {config.device_type.name for config in stream.codec_context.codec.hardware_configs}
        assert [name for name, _ in candidates(stream)] == ["cuda"] * offered
        monkeypatch.setattr(hardware, "_JETSON", (str(video),))
        assert [name for name, _ in candidates(stream)] == ["nvv4l2decoder"]


@pytest.fixture
def gstreamer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's PyGObject, as an environment made with --system-site-packages sees it."""
    packages = "/usr/lib/python3/dist-packages"
    probe = (
        f"import sys; sys.path.append({packages!r}); import gi; gi.require_version('GstApp', '1.0');"
        "from gi.repository import Gst, GstApp; Gst.init(None);"
        "sys.exit(not all(map(Gst.ElementFactory.find, ('h264parse', 'avdec_h264'))))"
    )
    if subprocess.run([sys.executable, "-c", probe], capture_output=True).returncode:
        pytest.skip("this Python cannot import gi, or GStreamer has no avdec_h264: apt install gstreamer1.0-libav")
    monkeypatch.setenv("PYTHONPATH", packages)


def test_gstreamer_gives_the_same_pictures_at_the_same_times(
    video: Path, gstreamer: None, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    hardware_is(monkeypatch, ("gst", partial(GStreamerDecoder, elements="avdec_h264 ! videoconvert")))
    for options in ({}, {"start": 1.5}, {"sampled_at": 4.0}):
        software = frames(video, **{**options, "decoder": "software"})
        found = frames(video, **{**options, "decoder": "hardware"})
        if "sampled_at" in options:  # GStreamer decodes also what no sample shows
            found = [frame for frame in found if frame[0] in [time for time, _ in software]]
        assert_same(found, software)
    with closing(open_source(video, decoder="hardware")) as source:  # and it can be left at any time
        assert len(list(islice(source, 2))) == 2


def test_a_gstreamer_decoder_that_is_not_there_is_left(
    video: Path, gstreamer: None, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    hardware_is(monkeypatch, ("nvv4l2decoder", partial(GStreamerDecoder, elements="nosuchdecoder")))
    assert len(frames(video)) == 36
    assert [record for record in log.records if "nosuchdecoder" in record.getMessage()]
