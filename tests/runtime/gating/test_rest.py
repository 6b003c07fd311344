"""When a picture is at rest."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.runtime.gating.windows import picture, with_dot
from vlj_edge import bundle
from vlj_edge.runtime.gating.rest import RestDetector
from vlj_edge.runtime.video.preprocess import CroppedFrame

REST = bundle.RestSettings()


def at_rest(clip: list[CroppedFrame], settings: bundle.RestSettings, frames_per_second: float) -> bool | None:
    return RestDetector(settings, frames_per_second).at_rest(clip)


def clip_of(moves: list[bool]) -> list[CroppedFrame]:
    """A clip whose neighbouring samples differ where this says so."""
    columns = np.cumsum([0, *moves]) % 20
    return [with_dot(int(column)) for column in columns]


@pytest.mark.parametrize(
    ("moves", "resting"),
    [
        ("_______", True),
        ("MMMMMMM", False),
        ("____MMM", True),  # 1 s of stillness, and the middle lies in it
        ("MMM____", True),
        ("MM___MM", False),  # too short
        ("MM____M", True),
        ("M______", True),
        ("MMMM___", False),  # it moves in the middle
        ("___M___", True),  # a cut to another still picture
        ("___MM__", False),
        ("_M_____", True),
        ("_M_M_M_", False),  # slow steps
    ],
)
def test_a_clip_is_at_rest_when_its_middle_is(moves: str, resting: bool) -> None:
    assert at_rest(clip_of([move == "M" for move in moves]), REST, 4.0) is resting


@given(st.lists(st.booleans(), min_size=1, max_size=15), st.floats(0.1, 3.0))
def test_rest_against_a_plain_account_of_it(moves: list[bool], seconds: float) -> None:
    kept = [
        move and (i in (0, len(moves) - 1) or moves[i - 1] or moves[i + 1])  # alone: a cut, or one of slow steps
        for i, move in enumerate(moves)
    ]
    first = last = middle = len(moves) // 2
    while first > 0 and not kept[first - 1]:
        first -= 1
    while last + 1 < len(moves) and not kept[last + 1]:
        last += 1
    needed = min(seconds * 4, len(moves))
    creeps = sum(moves) > 1 and any(moves[first : last + 1])
    wanted = not kept[middle] and last - first + 1 >= needed and not creeps
    assert at_rest(clip_of(moves), replace(REST, seconds=seconds), 4.0) is wanted


def test_rest_is_not_looked_for_where_it_is_off_or_there_is_one_picture() -> None:
    assert at_rest(clip_of([False] * 7), replace(REST, enabled=False), 4.0) is None
    assert at_rest([picture(0.5)], REST, 4.0) is None


def test_a_source_slower_than_the_clip_is_judged_by_its_own_frames() -> None:
    moving = [with_dot(column) for column in range(8)]
    still = [with_dot(3) for _ in range(8)]  # new pictures of the same
    for each in (2, 4):  # samples a frame: 2 and 1 frames a second
        assert at_rest([frame for frame in moving for _ in range(each)][:8], REST, 4.0) is False
        assert at_rest([frame for frame in still for _ in range(each)][:8], REST, 4.0) is True
        assert at_rest([frame for frame in moving for _ in range(each)][1:9], REST, 4.0) is False
    assert at_rest(moving[:1] * 8, REST, 4.0) is True  # a picture that lasts
    assert at_rest(moving[:1] * 4 + moving[4:5] * 4, REST, 4.0) is False  # two pictures do not tell a cut from movement
