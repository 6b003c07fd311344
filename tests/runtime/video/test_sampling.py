from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlj_edge.presets import Clip
from vlj_edge.runtime.video.sampling import Sample, samples, windows
from vlj_edge.runtime.video.source import Frame

CLIP = Clip(frames=8, frames_per_second=4.0, stride=2)

clips = st.builds(
    Clip,
    frames=st.integers(1, 16),
    frames_per_second=st.sampled_from([1.0, 4.0, 8.0, 29.97, 30000 / 1001, 2.5]),
    stride=st.integers(1, 20),
)


def frames_at(times: list[float]) -> list[Frame]:
    """Frames whose picture is their number."""
    return [Frame(time, np.full((1, 1, 3), index % 256, np.uint8)) for index, time in enumerate(times)]


def shown(times: list[float], clip: Clip = CLIP, last: float = 0.0) -> list[int]:
    """Which frame each sample shows."""
    return [sample.crop() for sample in samples(frames_at(times), clip, lambda image: int(image[0, 0, 0]), last)]


def timed(values: Iterable[int], clip: Clip) -> Iterator[Sample[int]]:
    rate = Fraction(clip.frames_per_second).limit_denominator(1001)
    return (Sample(number / rate, partial(int, value)) for number, value in enumerate(values))


times_of_any_stream = st.lists(
    st.one_of(st.floats(1e-4, 0.5), st.sampled_from([1 / 25, 1 / 50, 1001 / 30000, 0.25, 3.0])), max_size=60
).map(lambda gaps: [0.0, *np.cumsum(gaps).tolist()])


STEP = 1.02  # of the seconds between samples, up to which frames count as no further apart


@given(times_of_any_stream, clips)
def test_every_sample_shows_the_latest_frame_at_its_time(times: list[float], clip: Clip) -> None:
    rate = Fraction(clip.frames_per_second).limit_denominator(1001)
    exact = [Fraction(round(time * 1_000_000), 1_000_000) for time in times]
    found = shown(times, clip)
    assert len(found) == int(exact[-1] * rate) + 1  # the samples up to the last frame, which is one itself
    for sample, frame in enumerate(found):
        latest = max(index for index, time in enumerate(exact) if time <= sample / rate)
        following = exact[latest + 1] if latest + 1 < len(times) else None
        if following is None or not STEP / rate < following - exact[latest] <= 1.05:
            assert frame == latest
        else:
            assert frame in (latest, latest + 1)


@pytest.mark.parametrize(
    ("times", "period", "expected"),
    [
        ([0, 0.5, 1.0], 0.5, [0, 50, 100, 150, 200, 200]),  # half the clip's rate
        ([0, 1.0, 2.0], 1.0, [0, 25, 50, 75, 100, 125, 150, 175, 200, 200, 200, 200]),
        ([0, 2.0, 4.0], 2.0, [*(12.5 * np.arange(16)), *[200] * 8]),
        ([0, 3.0, 6.0], 3.0, [*[0] * 12, *[100] * 12, *[200] * 12]),  # too long to know what was between
        ([0, 0.04, 1.5, 1.54], 0.04, [0, *[100] * 5, 200]),  # a pause, with the next frame just after a sample
    ],
)
def test_samples_between_frames_of_a_slow_source_show_both(
    times: list[float], period: float, expected: list[float]
) -> None:
    frames = [Frame(time, np.full((2, 2, 3), 100 * index % 256, np.uint8)) for index, time in enumerate(times)]
    found = [int(sample.crop()[0, 0, 0]) for sample in samples(frames, CLIP, lambda image: image, period)]
    np.testing.assert_allclose(found, expected, atol=1.0)


def test_a_slow_source_is_reported_once_and_a_fast_one_never() -> None:
    for rate, expected in ((2, [2.0]), (1, [1.0]), (4, []), (25, []), (29.97, [])):
        rates: list[float] = []
        frames = frames_at([index / rate for index in range(100)])
        list(samples(frames, CLIP, lambda image: 0, 1 / rate, rates.append))
        assert rates == pytest.approx(expected)


def test_frames_that_were_left_out_do_not_make_a_source_slow() -> None:
    frames = [Frame(0.0, np.zeros((1, 1, 3), np.uint8), 1 / 30), Frame(0.5, np.full((1, 1, 3), 200, np.uint8))]
    assert [int(sample.crop()[0, 0, 0]) for sample in samples(frames, CLIP, lambda image: image)] == [0, 0, 200]


@given(st.floats(1, 120), st.integers(1, 200))
def test_samples_depend_on_time_and_not_on_the_frame_rate(rate: float, count: int) -> None:
    times = [index / rate for index in range(count)]
    found = shown(times, last=1 / rate)
    assert abs(len(found) - count / rate * 4) <= 1 + 1e-4
    for sample, frame in enumerate(found[:-1] if rate > 4 else []):
        assert sample / 4 - 1 / rate - 1e-5 <= times[frame] <= sample / 4 + 1e-5


@pytest.mark.parametrize("seconds", [1, 2, 7.5, 61])
def test_same_scene_at_any_rate_gives_the_same_windows(seconds: float) -> None:
    def seen(rate: float) -> list[tuple[float, float, list[int]]]:
        frames = [
            # the scene: its picture says which second it is
            Frame(index / rate, np.full((1, 1, 3), int(index / rate + 1e-9), np.uint8))
            for index in range(round(seconds * rate))
        ]
        found = samples(frames, CLIP, lambda image: int(image[0, 0, 0]), 1 / rate)
        return [(w.start, w.end, clip) for w, clip in windows(found, CLIP)]

    assert seen(25) == seen(50) == seen(100) == seen(4)
    assert len(seen(25)) == max(1, (int(seconds * 4) - 8) // 2 + 1)


def test_ntsc_rounding_does_not_shift_a_frame() -> None:
    # frame 7500 of 30000/1001 a second falls on the sample at 250.25 s exactly, but its floating-point time may not
    times = [index * 1001 / 30000 for index in range(7501)]
    assert shown(times)[1001] == 7500 % 256


def test_gap_repeats_the_latest_frame() -> None:
    assert shown([0.0, 0.25, 2.0]) == [0, 1, 1, 1, 1, 1, 1, 1, 2]


def test_last_frame_lasts_for_the_period() -> None:
    assert shown([0.0, 1.0]) == [0, 0, 0, 0, 1]
    assert shown([0.0, 1.0], last=1.0) == [0, 0, 0, 0, 1, 1, 1, 1]


def test_a_frame_that_is_sampled_repeatedly_is_cropped_once() -> None:
    cropped: list[int] = []
    for sample in samples(frames_at([0.0, 0.1, 5.0]), CLIP, lambda image: cropped.append(int(image[0, 0, 0]))):
        sample.crop()
    assert cropped == [0, 1, 2]


def test_a_sample_waits_only_for_the_next_frame() -> None:
    given_out: list[int] = []

    def stream() -> Iterator[Frame]:
        for frame in frames_at([index / 10 for index in range(100)]):
            given_out.append(int(frame.image[0, 0, 0]))
            yield frame

    found = samples(stream(), CLIP, lambda image: int(image[0, 0, 0]))
    assert next(found).crop() == 0
    assert given_out == [0, 1]  # frame 1 is past sample 0
    sample = next(found)
    assert (sample.time, sample.crop()) == (Fraction(1, 4), 2)
    assert given_out == [0, 1, 2, 3]  # frame 3, at 0.3 s, is past sample 1 at 0.25 s


@given(st.integers(0, 100), clips)
def test_windows_are_all_whole_clips_of_the_samples(count: int, clip: Clip) -> None:
    found = list(windows(timed(range(count), clip), clip))
    if 0 < count < clip.frames:
        assert [contents for _, contents in found] == [[*range(count), *[count - 1] * (clip.frames - count)]]
    else:
        starts = range(0, max(0, count - clip.frames + 1), clip.stride)
        assert [contents for _, contents in found] == [list(range(s, s + clip.frames)) for s in starts]
    for index, (times, _) in enumerate(found):
        rate = Fraction(clip.frames_per_second).limit_denominator(1001)
        assert times.index == index and times.start == float(index * clip.stride / rate)
        assert times.end == float((index * clip.stride + clip.frames) / rate)


def test_windows_of_a_source_that_begins_late_have_its_times() -> None:
    late = [5.04 + index / 25 for index in range(100)]
    found = list(windows(samples(frames_at(late), CLIP, lambda image: int(image[0, 0, 0]), 1 / 25), CLIP))
    assert [(w.start, w.end) for w, _ in found] == [(5.04 + k / 2, 7.04 + k / 2) for k in range(len(found))]
    assert found[0][1] == [0, 6, 12, 18, 25, 31, 37, 43]


def test_window_comes_as_soon_as_its_last_sample() -> None:
    taken: list[int] = []

    def stream() -> Iterator[int]:
        for index in range(100):
            taken.append(index)
            yield index

    found = windows(timed(stream(), CLIP), CLIP)
    next(found)
    assert taken == list(range(8))
    next(found)
    assert taken == list(range(10))


def test_first_windows_of_nano() -> None:
    found = [(w.index, w.start, w.end, w.centre) for w, _ in windows(timed(range(12), CLIP), CLIP)]
    assert found == [(0, 0.0, 2.0, 1.0), (1, 0.5, 2.5, 1.5), (2, 1.0, 3.0, 2.0)]


def test_no_frames_no_windows() -> None:
    assert list(windows(samples([], CLIP, lambda image: image), CLIP)) == []


def test_windows_that_are_left_out_are_not_cropped() -> None:
    cropped: list[int] = []

    def crop(image: np.ndarray) -> int:
        cropped.append(int(image[0, 0, 0]))
        return cropped[-1]

    frames = frames_at([index / 4 for index in range(100)])
    found = list(windows(samples(frames, CLIP, crop, 0.25), CLIP, every=5.0))
    assert [(window.start, contents) for window, contents in found] == [
        (start, list(range(4 * start, 4 * start + 8))) for start in range(0, 22, 5)
    ]
    assert cropped == [index for _, contents in found for index in contents]
