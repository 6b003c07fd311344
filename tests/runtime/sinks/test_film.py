"""The film of a recording shows each text in exactly the frames in which the subtitles show it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.runtime.films import ffmpeg, needs_ffmpeg, pictures, times
from vlj_edge.errors import VljEdgeError
from vlj_edge.results import Narration
from vlj_edge.runtime.sinks.film import KeptSource, write_film
from vlj_edge.runtime.video.source import Frame, Source
from vlj_edge.runtime.video.uri import open_source

BAR = 40  # rows of a picture of 240 in which a text is drawn


def narration(centre: float, text: str) -> Narration:
    return Narration(centre - 1, centre + 1, text, "decoder")


def lettered(path: Path) -> list[bool]:
    """Return whether each picture has white letters on a dark bar, in a film of blue ones."""
    return [image[-BAR:, :, 2].max() > 180 and image[-BAR:, :, 0].min() < 120 for image in pictures(path)]


class Blue(Source):
    """Blue pictures at odd times."""

    times = (0.5, 0.6, 1.0, 1.0004, 1.5, 2.0, 2.9996, 3.0, 3.5)
    period = 0.1

    def frames(self) -> Iterator[Frame]:
        for at in self.times:
            yield Frame(at, np.full((240, 320, 3), (220, 60, 30), np.uint8))


@needs_ffmpeg
def test_texts_begin_and_end_with_their_cues(tmp_path: Path) -> None:
    said = [narration(1.0003, "a drawer"), narration(2.0, ""), narration(3.0, "a\nbutton")]
    write_film(Blue(), said, tmp_path / "film.mp4")
    assert times(tmp_path / "film.mp4") == pytest.approx(Blue.times, abs=2e-5)
    assert lettered(tmp_path / "film.mp4") == [False, False, True, True, True, False, False, True, True]


@needs_ffmpeg
def test_times_of_a_part_count_from_its_start(tmp_path: Path) -> None:
    blue = ffmpeg(tmp_path / "blue.mp4", "-f", "lavfi", "-i", "color=blue:s=320x240:r=10:d=4")
    write_film(open_source(blue, start=1.5, end=3.0), [narration(2.0, "a drawer")], tmp_path / "film.mp4")
    assert times(tmp_path / "film.mp4") == pytest.approx([number / 10 for number in range(15)], abs=1e-4)
    assert lettered(tmp_path / "film.mp4") == [False] * 5 + [True] * 10


def test_a_source_that_can_be_read_once_is_kept(tmp_path: Path) -> None:
    kept = KeptSource(Blue(), tmp_path / "kept.mp4")
    assert [frame.time for frame in kept] == list(Blue.times)
    write_film(open_source(tmp_path / "kept.mp4"), [narration(1.5, "a drawer")], tmp_path / "film.mp4", kept.first)
    assert lettered(tmp_path / "film.mp4") == [False] * 4 + [True] * 5
    frames = iter(KeptSource(Blue(), tmp_path / "broken-off.mp4"))
    next(frames)
    frames.close()  # type: ignore[attr-defined]
    assert sorted(os.listdir(tmp_path)) == ["film.mp4", "kept.mp4"]


def test_what_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(VljEdgeError, match="nowhere"):
        write_film(Blue(), [], tmp_path / "nowhere" / "film.mp4")
