"""Video files and folders of images."""

from __future__ import annotations

import gc
import re
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests.runtime.tiny_bundle import BLUE, RED
from vlj_edge.presets import Clip
from vlj_edge.runtime.video.cameras.opencv import import_opencv
from vlj_edge.runtime.video.decoding.decoder import Clock
from vlj_edge.runtime.video.decoding.picture import PictureConverter
from vlj_edge.runtime.video.recordings.files import VideoFile
from vlj_edge.runtime.video.sampling import samples
from vlj_edge.runtime.video.uri import open_source

MakeVideo = Callable[..., Path]


def write_image(path: Path, value: int, size: tuple[int, int] = (32, 24)) -> Path:
    assert import_opencv().imwrite(str(path), np.full((size[1], size[0], 3), value, np.uint8))
    return path


@pytest.mark.parametrize("rate", [10, 25, 29.97])
def test_video_file_gives_every_frame_and_its_time(make_video: MakeVideo, rate: float) -> None:
    path = make_video([(RED, 1), (BLUE, 1)], rate=rate)
    with open_source(path) as source:
        frames = list(source)
    count = 2 * round(rate)
    assert len(frames) == count
    np.testing.assert_allclose([frame.time for frame in frames], np.arange(count) / rate, atol=2e-3)
    assert frames[0].image.shape == (48, 64, 3)
    assert frames[0].image.dtype == np.uint8
    assert frames[0].image[0, 0].argmax() == 2  # BGR: red
    assert frames[-1].image[0, 0].argmax() == 0
    assert source.seconds == pytest.approx(count / rate, abs=2e-3)
    assert source.incomplete is None


@pytest.mark.parametrize("order", ["as they come", "afterwards", "backwards", "after closing"])
def test_an_image_is_the_same_whenever_it_is_read(make_video: MakeVideo, order: str) -> None:
    path = make_video([(RED, 1), (BLUE, 1)], rate=10)
    with av.open(str(path)) as container:
        expected = [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]
    assert len(expected) == 20
    source = VideoFile(path)
    if order == "as they come":
        found = dict(enumerate(frame.image for frame in source))
    else:
        frames = list(source)
        if order == "after closing":
            source.close()
        numbers = range(19, -1, -1) if order == "backwards" else range(20)
        found = {number: frames[number].image for number in numbers}
    for number, image in found.items():
        assert np.abs(image.astype(int) - expected[number]).max() <= 2  # bicubic and bilinear chroma
    source.close()


def test_only_sampled_frames_are_converted(make_video: MakeVideo, monkeypatch: pytest.MonkeyPatch) -> None:
    path, made = make_video([(RED, 1), (BLUE, 2)], rate=30), []
    real = PictureConverter.to_bgr
    monkeypatch.setattr(PictureConverter, "to_bgr", lambda self, *which: made.append(which) or real(self, *which))
    source = VideoFile(path)
    clip = Clip(frames=8, frames_per_second=4.0, stride=2)
    shown = [sample.crop() for sample in samples(source, clip, lambda image: image, source.period)]
    assert len(shown) == 12 and len(made) == len(shown)


def test_a_recording_is_freed_without_garbage_collection(make_video: MakeVideo) -> None:
    source = VideoFile(make_video([(RED, 1)], rate=10))  # its scaler has threads
    assert [frame.image for frame in source]
    left = weakref.ref(source)
    gc.disable()
    try:
        source.close()
        del source
        assert left() is None
    finally:
        gc.enable()


def test_metadata_may_be_of_any_bytes(make_video: MakeVideo) -> None:
    path = make_video([(RED, 1)], rate=10)
    data = path.read_bytes()
    assert data.count(b"Lavf") == 1  # the program that wrote it
    path.write_bytes(data.replace(b"Lavf", b"\xe9avf"))
    assert len(list(open_source(path))) == 10


def test_images_of_kept_frames_do_not_change(make_video: MakeVideo) -> None:
    first, *_, last = list(open_source(make_video([(RED, 1), (BLUE, 1)])))
    assert first.image[0, 0].argmax() != last.image[0, 0].argmax()


@pytest.mark.parametrize("form", [str, Path, lambda path: f"file://{path}"])
def test_forms_of_a_path(make_video: MakeVideo, form: Callable[[Path], Any]) -> None:
    assert len(list(open_source(form(make_video([(RED, 0.2)]))))) == 5


def test_file_uri_with_escapes(make_video: MakeVideo) -> None:
    path = make_video([(RED, 0.2)], name="two words.mp4")
    assert len(list(open_source(f"file://{str(path).replace(' ', '%20')}"))) == 5


def test_a_truncated_file_gives_its_frames_and_is_reported_as_incomplete(make_video: MakeVideo) -> None:
    path = make_video([(RED, 4)], name="video.avi")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    source = open_source(path)
    frames = list(source)
    assert 30 < len(frames) < 70
    assert source.incomplete is not None
    found = re.fullmatch(rf"{re.escape(str(path))} breaks off at (\S+) of 4.0 seconds.*", source.incomplete)
    assert found is not None and float(found[1]) == pytest.approx(source.seconds, abs=0.1)
    assert "\n" not in source.incomplete


@pytest.mark.parametrize(
    "given, expected",
    [
        ([0.0, 0.1, 0.2, 0.3], [0.0, 0.1, 0.2, 0.3]),
        ([5.0, 5.1, 5.7], [5.0, 5.1, 5.7]),  # does not begin at 0, and has a gap
        ([0.0, 0.0, 0.0, 0.0], [0.0, 0.1, 0.2, 0.3]),  # a container without times
        ([None, None, None, None], [0.0, 0.1, 0.2, 0.3]),
        ([0.0, 0.1, 0.1, 0.2, 0.3], [0.0, 0.1, 0.2, 0.2, 0.3]),  # the same time twice
        ([0.0, 0.5, 0.1, 0.2, 0.9], [0.0, 0.5, 0.5, 0.5, 0.9]),  # in disorder
        ([20.0, 20.5, 0.0, 0.4], [20.0, 20.5, 20.6, 21.0]),  # joined from two
        ([0.0, 0.1, 1e9, 0.3], [0.0, 0.1, 0.2, 0.3]),  # one that cannot be
    ],
)
def test_times_never_go_back(given: list[float | None], expected: list[float]) -> None:
    clock = Clock(0.1, trusted=True)
    assert [clock.time(stored) for stored in given] == pytest.approx(expected)


def test_pictures_are_let_go(make_video: MakeVideo) -> None:
    def alive() -> int:
        return sum(type(each) is av.VideoFrame for each in gc.get_objects())

    source = VideoFile(make_video([(RED, 4)], size=(640, 480)))
    gc.collect()
    gc.disable()
    before = alive()
    try:
        for frame in source:
            assert frame.image.shape == (480, 640, 3)
        assert alive() - before < 4
    finally:
        gc.enable()


# --- folders


def test_folder_in_natural_order_at_the_given_rate(tmp_path: Path) -> None:
    for name, value in (("f10.png", 100), ("f9.jpg", 90), ("f1.PNG", 10), ("f2.bmp", 20), ("f3.webp", 30)):
        write_image(tmp_path / name, value)
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / ".f0.png").write_bytes(b"what some systems leave beside their files")
    source = open_source(tmp_path, frames_per_second=2)
    frames = list(source)
    assert [round(float(frame.image.mean()), -1) for frame in frames] == [10, 20, 30, 90, 100]
    assert [frame.time for frame in frames] == [0, 0.5, 1, 1.5, 2]
    assert source.seconds == 2.5


def test_single_image_is_not_the_first_of_a_sequence(tmp_path: Path) -> None:
    write_image(tmp_path / "f001.png", 10)
    write_image(tmp_path / "f002.png", 20)
    assert len(list(open_source(tmp_path / "f001.png"))) == 1
