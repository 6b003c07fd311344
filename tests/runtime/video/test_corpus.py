"""Videos of every kind, compared with what ffprobe and ffmpeg find in them.

ffprobe is another version of FFmpeg (the system's) than the one that PyAV brings, so both rarely err in the same way.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import PIL.Image
import pytest

from tests.runtime.video.corpus import CODECS, CONTAINERS, DAMAGE, GEOMETRY, NO_VIDEO, STREAMS, TIMING, Corpus
from tests.runtime.video.reference import Reference, reference
from vlj_edge import VljEdgeError
from vlj_edge.presets import Clip
from vlj_edge.runtime.video.part import Part
from vlj_edge.runtime.video.recordings.files import VideoFile
from vlj_edge.runtime.video.sampling import samples
from vlj_edge.runtime.video.source import Frame, Image
from vlj_edge.runtime.video.uri import open_source

pytestmark = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")

GOOD = [
    name
    for name in CODECS | CONTAINERS | GEOMETRY | TIMING | STREAMS
    if not name.startswith(("cover.j", "subtitles.s", "late_text"))
]

Times = npt.NDArray[np.float64]


def _at_rate(times: Times, rate: float) -> Times:
    return np.arange(len(times)) / rate


def _joined(times: Times) -> Times:
    """Where times go back, the second file goes on one picture after the first."""
    [at] = np.flatnonzero(np.diff(times) < 0) + 1
    return np.concatenate([times[:at], times[at:] - times[at] + times[at - 1] + 0.04])


# Where ffprobe's times are not those at which a player shows the frames: what they are.
TIMES: dict[str, Callable[[Times], Times]] = {
    # Without a container there are no times: the rate is what counts.
    "h264.h264": lambda times: _at_rate(times, 25),
    "h264_pyramid.h264": lambda times: _at_rate(times, 25),
    "h264_30.h264": lambda times: _at_rate(times, 30),
    "hevc.hevc": lambda times: _at_rate(times, 25),
    "size_changes.h264": lambda times: _at_rate(times, 25),
    "other_size.h264": lambda times: _at_rate(times, 25),
    # ffprobe gives the times as they are stored, which start anew.
    "joined.ts": _joined,
    "joined_sound.ts": _joined,
    # Of two frames with the same time, the second is shown for as long as the first.
    "same_time_twice.mkv": lambda times: _at_rate(times, 25),
}
# The place in the file at which a time is stored is not the time in the whole reading: `start` counts from there.
JOINED = {"joined.ts", "joined_sound.ts"}


@dataclass(frozen=True)
class Reading:
    """What was read of a file, and what ffprobe and ffmpeg find in it."""

    name: str
    path: Path
    frames: list[Frame]
    incomplete: str | None
    expected: Reference


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return Corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module", params=GOOD)
def reading(request: pytest.FixtureRequest, corpus: Corpus) -> Reading:
    path = corpus(request.param)
    frames, incomplete = read(path)
    return Reading(request.param, path, frames, incomplete, reference(path))


def read(path: Path, part: Part | None = None, sampled_at: float | None = None) -> tuple[list[Frame], str | None]:
    with VideoFile(path, part=part, sampled_at=sampled_at) as source:
        return list(source), source.incomplete


def difference(image: Image, other: Image) -> float:
    """Mean distance of two images in brightness, in grey levels, without the finest detail, in which scalers differ."""
    return _distance(image, other, "L", 2)


def colour_difference(image: Image, other: Image) -> float:
    """Mean distance in colour, in coarse blocks: FFmpeg's versions do not agree where in a picture a colour is."""
    return _distance(image, other, "RGB", 8)


def _distance(image: Image, other: Image, mode: str, block: int) -> float:
    height, width = other.shape[:2]
    picture = PIL.Image.fromarray(image)
    if image.shape != other.shape:
        picture = picture.resize((width, height))
    one, two = (np.asarray(each.convert(mode).reduce(block), float) for each in (picture, PIL.Image.fromarray(other)))
    return float(np.abs(one - two).mean())


def test_number_and_times_of_frames(reading: Reading) -> None:
    found = np.array([frame.time for frame in reading.frames])
    expected = TIMES.get(reading.name, lambda times: times)(reading.expected.times)
    assert reading.incomplete is None
    assert len(found) == len(expected)
    known = ~np.isnan(expected)
    np.testing.assert_allclose(found[known], expected[known], atol=1e-4)
    assert (np.diff(found) > 0).all()


def test_sizes_of_frames(reading: Reading) -> None:
    assert [frame.image.shape[1::-1] for frame in reading.frames] == reading.expected.sizes


def test_images_of_frames(reading: Reading) -> None:
    expected = reading.expected.images
    # Where the size of interlaced pictures changes, ffmpeg's own filter loses one.
    frames = reading.frames[:40] if reading.name == "size_of_fields_changes.ts" else reading.frames
    assert len(frames) in (40, len(expected))
    pairs = [(frame.image, image) for frame, image in zip(frames, expected, strict=False)]
    assert max(difference(*pair) for pair in pairs) < 3  # neighbours differ by 5 and more
    assert max(colour_difference(*pair) for pair in pairs[:3]) < 4


def test_images_tell_frames_mirrors_and_black_apart(corpus: Corpus) -> None:
    images = reference(corpus("h264.mp4")).images
    assert min(difference(a, b) for a, b in pairwise(images)) > 4.5
    assert min(difference(image, np.zeros_like(image)) for image in images) > 20
    for y, x in ((1, -1), (-1, 1), (-1, -1)):
        assert min(difference(image, image[::y, ::x]) for image in images) > 20
    assert min(colour_difference(image, image[..., ::-1]) for image in images) > 20


@pytest.mark.parametrize("rate", [4.0, 10.0])
def test_samples_are_the_same_if_only_they_are_decoded(reading: Reading, rate: float) -> None:
    frames, incomplete = read(reading.path, sampled_at=rate)
    assert incomplete is None
    expected, found = sampled(reading.frames, rate), sampled(frames, rate)
    assert [time for time, _ in found] == [time for time, _ in expected]
    for (time, image), (_, other) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(image, other, err_msg=f"{time}")


def sampled(frames: Sequence[Frame], rate: float) -> list[tuple[float, Image]]:
    clip = Clip(frames=8, frames_per_second=rate, stride=2)
    return [(float(sample.time), sample.crop()) for sample in samples(frames, clip, lambda image: image, 0.04)]


@pytest.mark.parametrize("sampled_at", [None, 4.0])
def test_a_part_has_the_frames_of_the_whole(reading: Reading, sampled_at: float | None) -> None:
    if reading.name in JOINED or len(reading.frames) < 3:
        pytest.skip("a part of it is not asked for")
    times = [frame.time for frame in reading.frames]
    start, end = times[0] + 0.45 * (times[-1] - times[0]), times[0] + 0.9 * (times[-1] - times[0])
    frames, incomplete = read(reading.path, Part(start, end), sampled_at)
    whole = [frame for frame in reading.frames if start - 1e-6 <= frame.time < end - 1e-6]
    assert incomplete is None
    if sampled_at is None:
        assert [frame.time for frame in frames] == pytest.approx([frame.time for frame in whole])
    by_time = {round(frame.time, 5): frame for frame in whole}
    away = [difference(frame.image, by_time[round(frame.time, 5)].image) for frame in frames]
    assert max(away[1:], default=0.0) == 0
    assert away[0] < 3  # the first of interlaced ones lacks the frame before


def test_a_stream_that_appears_late(corpus: Corpus) -> None:
    frames, incomplete = read(corpus("late_text.flv"))  # which ffprobe 5.1 dies of
    expected, _ = read(corpus("h264.flv"))
    assert incomplete is None and [frame.time for frame in frames] == [frame.time for frame in expected]


# --- damage


# Files whose loss nothing tells: those without a length in their header, of which any beginning is whole (a transport
# stream of joined segments has the same gaps in its counters as one with lost packets), and those that lack less than
# half a second.
UNTOLD = {
    name
    for name in DAMAGE
    if name.endswith(("of_h264.ts", "of_ntsc.ts")) or name.startswith(("cut_at_95", "lost", "growing"))
}
UNTOLD -= {"cut_at_95_of_h264_aac.mp4"}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_costs_no_more_than_what_is_damaged(corpus: Corpus, name: str) -> None:
    path = corpus(name)
    frames, incomplete = read(path)
    whole, _ = read(corpus(DAMAGE[name].name))  # type: ignore[union-attr]
    shift = whole[0].time - frames[0].time  # of sound that is no longer there
    near = [min(whole, key=lambda one: abs(one.time - frame.time - shift)) for frame in frames]
    away = [difference(frame.image, one.image) for frame, one in zip(frames, near, strict=True)]
    assert max(abs(one.time - frame.time - shift) for frame, one in zip(frames, near, strict=True)) < 2e-3
    # After damage, pictures are predicted from what was lost, up to the next key picture.
    assert np.mean(np.array(away) < 3) > 0.5, np.round(away, 1)
    share = float(found[1]) / 100 if (found := re.match(r"cut_at_(\d+)", name)) else 0.7
    assert len(frames) >= (share - 0.22) * len(whole)
    if name in UNTOLD:
        assert incomplete is None
    else:
        assert incomplete is not None and incomplete.startswith(f"{path} ") and "\n" not in incomplete


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_told_if_only_samples_are_decoded(corpus: Corpus, name: str) -> None:
    (every, incomplete), (needed, told) = read(corpus(name)), read(corpus(name), sampled_at=4.0)
    assert (told is None) == (incomplete is None)
    expected, found = sampled(every, 4.0), sampled(needed, 4.0)
    assert [time for time, _ in found] == [time for time, _ in expected]
    same = [np.array_equal(image, other) for (_, image), (_, other) in zip(expected, found, strict=True)]
    # How pictures are predicted from a damaged one depends on which others were decoded.
    assert all(same) or (name == "overwritten.ts" and np.mean(same) > 0.5)


@pytest.mark.parametrize("name", NO_VIDEO)
def test_what_is_no_video_is_refused_in_a_line(corpus: Corpus, name: str) -> None:
    path = corpus(name)
    with pytest.raises(VljEdgeError) as error:
        open_source(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)
