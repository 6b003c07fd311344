"""Thumbnails and clips show exactly the moment, with its sound."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from tests.runtime.films import ffmpeg, loudness, needs_ffmpeg, pictures, probe, times
from vlj_edge.errors import VljEdgeError
from vlj_edge.results import Moment
from vlj_edge.runtime.library.moments import reading_of
from vlj_edge.runtime.library.pictures import write_clip, write_thumbnail
from vlj_edge.runtime.video.part import Part

pytestmark = needs_ffmpeg

# 10 s whose picture turns white at 4 s and black at 6 s, with a tone meanwhile.
PICTURE = "color=black:s=640x360:r=25:d=10,drawbox=c=white:t=fill:enable='between(t,4,5.999)'"
TONE = "sine=1000:d=10:r=48000:samples_per_frame=480,volume='between(t,4,5.999)':eval=frame"


def moment(path: Path, start: float, end: float) -> Moment:
    return Moment(str(path), start, end, 0.5, start, end)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recording") / "flash.mp4"
    arguments = ("-f", "lavfi", "-i", PICTURE, "-f", "lavfi", "-i", TONE)
    return ffmpeg(path, *arguments, "-g", "250", "-pix_fmt", "yuv420p", "-c:a", "aac")


def test_a_clip_is_the_moment_with_its_sound(recording: Path, tmp_path: Path) -> None:
    write_clip(moment(recording, 3.5, 6.5), tmp_path / "clip.mp4")
    streams = probe(tmp_path / "clip.mp4")
    assert streams["video"]["codec_name"] == "h264" and streams["audio"]["codec_name"] == "aac"
    shown = times(tmp_path / "clip.mp4")
    assert shown[0] == pytest.approx(0, abs=0.04) and shown[-1] == pytest.approx(3.0, abs=0.05)
    white = [at for at, image in zip(shown, pictures(tmp_path / "clip.mp4"), strict=True) if image.mean() > 128]
    assert len(white) == 50 and white[0] == pytest.approx(0.5, abs=1e-3)
    heard = np.flatnonzero(loudness(tmp_path / "clip.mp4", 0.01) > 0.03) / 100
    assert heard[0] == pytest.approx(0.5, abs=0.04) and heard[-1] == pytest.approx(2.5, abs=0.04)


def test_the_frame_that_is_shown_as_a_moment_begins_is_in_it(tmp_path: Path) -> None:
    slow = ffmpeg(tmp_path / "slow.mp4", "-f", "lavfi", "-i", "testsrc=s=64x48:r=1:d=10")
    write_clip(moment(slow, 3.5, 5.5), tmp_path / "clip.mp4")
    assert times(tmp_path / "clip.mp4") == pytest.approx([0.0, 0.5, 1.5], abs=1e-3)


def test_a_thumbnail_is_the_middle_frame(recording: Path, tmp_path: Path) -> None:
    for start, bright in ((3.0, False), (4.2, True), (6.1, False), (8.9, False)):
        write_thumbnail(moment(recording, start, start + 1), tmp_path / "shown.jpg")
        with PIL.Image.open(tmp_path / "shown.jpg") as picture:
            assert picture.format == "JPEG" and picture.size == (320, 180)
            assert (np.asarray(picture).mean() > 128) == bright


def test_pictures_have_the_times_and_the_rotation_with_which_the_video_was_indexed(
    recording: Path, tmp_path: Path
) -> None:
    reading = reading_of(Part(start=5, end=15, frames_per_second=12.5), rotate=90)  # slow motion: white from 8 to 12 s
    for start, bright in ((7.0, False), (8.2, True), (12.1, False)):
        write_thumbnail(moment(recording, start, start + 0.5), tmp_path / "shown.jpg", reading)
        with PIL.Image.open(tmp_path / "shown.jpg") as picture:
            assert picture.size == (320, 569) and (np.asarray(picture).mean() > 128) == bright
    write_clip(moment(recording, 7.0, 13.0), tmp_path / "clip.mp4", reading)
    assert list(probe(tmp_path / "clip.mp4")) == ["video"]
    bright_frames = [image.mean() > 128 for image in pictures(tmp_path / "clip.mp4")]
    assert len(bright_frames) == 76 and bright_frames.index(True) == 13 and sum(bright_frames) == 50


def test_what_cannot_be_made_leaves_nothing(recording: Path, tmp_path: Path) -> None:
    for write, name in ((write_clip, "x.mp4"), (write_thumbnail, "x.jpg")):
        with pytest.raises(VljEdgeError, match=r"flash\.mp4.*index"):
            write(moment(recording, 20.0, 21.0), tmp_path / name)
        with pytest.raises(VljEdgeError, match="nowhere"):
            write(moment(recording, 1.0, 2.0), tmp_path / "nowhere" / name)
    assert os.listdir(tmp_path) == []
