"""When something begins or stops moving in one part of a picture while something else goes on."""

from __future__ import annotations

import numpy as np
import pytest

from tests.runtime.gating.windows import at_angle, picture
from vlj_edge import Window, bundle
from vlj_edge.runtime.gating import parts
from vlj_edge.runtime.gating.clip_window import ClipWindow, Encoded
from vlj_edge.runtime.gating.meaning import MeaningGate
from vlj_edge.runtime.gating.rest import RestDetector
from vlj_edge.runtime.video.preprocess import CroppedFrame

CLIP, STRIDE = 8, 2


def frame(*columns: int) -> CroppedFrame:
    """Things of 3 x 3 cells, the first at the top, each further one 12 rows below the one before."""
    cells = np.full((32, 32), 0.4, np.float32)
    for place, column in enumerate(columns):
        cells[3 + 12 * place : 6 + 12 * place, column % 29 : column % 29 + 3] = 0.9
    return picture(cells)


def turns(frames: list[CroppedFrame]) -> list[bool]:
    """Of each window; a picture at rest has none."""
    detector, found = RestDetector(bundle.RestSettings(), 4.0), []
    for start in range(0, len(frames) - CLIP + 1, STRIDE):
        found.append(detector.at_rest(frames[start : start + CLIP]) is False and detector.turned_in_part)
    return found


@pytest.mark.parametrize("begins", [True, False])
def test_a_second_thing_that_begins_or_stops_is_a_turn_of_a_part_once(begins: bool) -> None:
    second = [max(0, n - 14) if begins else min(n, 14) for n in range(28)]
    assert sum(turns([frame(n, 2 + column) for n, column in enumerate(second)])) == 1


def test_one_thing_alone_that_begins_and_stops_is_none() -> None:
    assert not any(turns([frame(min(max(0, n - 12), 20)) for n in range(44)]))


def test_things_on_their_way_are_none() -> None:
    assert not any(turns([frame(n, 26 - n // 2) for n in range(27)]))


def test_a_picture_that_changes_everywhere_has_no_parts() -> None:
    rng = np.random.default_rng(0)
    assert not any(turns([picture(rng.uniform(0, 1, (32, 32)).astype(np.float32)) for _ in range(60)]))


def looks(turned_at: list[float], resting: bool = False, seconds: float = 20.0) -> list[float]:
    """The times at which a gate that hears of such turns looks, in a stream without any change of meaning."""
    settings = bundle.MeaningGateSettings(
        calm_windows=1, speak_below=0.9, speak_below_at_rest=0.9, forget_above=0.95, same_above=1.0,
        look_every=5.0, longest_look=5.0, look_at_rest=8.0, least_hold=1.0, settle_moving=0.5,
    )  # fmt: skip
    gate, found = MeaningGate(settings), list[float]()

    def encode(at: float) -> Encoded:
        found.append(at)
        return Encoded(at_angle(0))

    for number in range(round(2 * seconds)):
        at = number / 2
        window = Window(number, at - 0.5, at + 0.5)
        gate.offer(ClipWindow(window, [], resting, lambda _, at=at: encode(at), turned_in_part=at in turned_at))
    return [at for at in found if at > 2]


def test_a_turn_of_a_part_is_looked_at_half_a_second_later() -> None:
    without = looks([])
    assert np.all(np.diff(without) == 5)
    with_one = looks([without[0] + 2])
    assert without[0] + 2.5 in with_one and len(with_one) <= len(without) + 1


def test_many_turns_of_parts_bring_no_more_looks_than_texts_may_follow() -> None:
    every = [number / 2 for number in range(200)]
    assert np.diff(looks(every)).min() >= 1.0
    assert looks(every, resting=True) == looks([], resting=True), "a picture at rest has no parts that move"


def test_where_parts_often_turn_it_looks_more_often_and_later_as_before() -> None:
    turned_at = [10.0, 16.0, 22.0, 28.0]
    found = np.array(looks(turned_at, seconds=90.0))
    without = looks([], seconds=90.0)
    steps = np.diff(found)
    assert steps[(found[1:] > 29) & (found[1:] < 40)].max() <= 3.5, "two thirds of 5 s, in windows of half a second"
    assert np.all(steps[found[1:] > 48] == np.diff(without)[0]), "half a minute after the first of four turns"


@pytest.mark.parametrize("share", [0.0, 0.002, 0.05])
def test_what_is_within_reach_is_found_as_a_wide_maximum_finds_it(share: float) -> None:
    mask = np.random.default_rng(1).random((32, 32)) < share
    rows, columns = np.nonzero(mask)
    at = np.indices((32, 32))
    near = np.zeros((32, 32), bool)
    for row, column in zip(rows, columns, strict=True):
        near |= (np.abs(at[0] - row) <= 5) & (np.abs(at[1] - column) <= 5)
    assert np.array_equal(parts._widened(mask), near)
