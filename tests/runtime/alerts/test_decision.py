"""When an alert fires: once for an event, never more often than it may, whatever the gaps and the clock."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from vlj_edge.runtime.alerts.decision import LONGEST_STEP, AlertState, Rule, Turn, advance, finish

scores = st.none() | st.floats(0, 1)
# steps of a clock: usual ones, gaps, none, and a clock that is set
steps = st.floats(0.01, 3.0) | st.floats(0, 1e5) | st.floats(-1e5, 0)
streams = st.lists(st.tuples(steps, scores, st.booleans()), max_size=80)


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    above = draw(st.floats(0, 1))
    return Rule(
        above,
        above * draw(st.floats(0, 1)),
        draw(st.sampled_from([0.0, 0.5, 5.0, 60.0])),
        draw(st.sampled_from([0.0, 1.0, 60.0, 600.0])),
    )


def play(rule: Rule, windows: Sequence[tuple[float, float | None]], quiet: bool = False) -> list[Turn]:
    """The turns of windows given as (time, score)."""
    state, found = AlertState(), []
    for at, score in windows:
        state, turn = advance(state, rule, at, score, quiet)
        found += [] if turn is None else [turn]
    return found


def every_half_second(*parts: tuple[float, float | None]) -> list[tuple[float, float | None]]:
    """Windows every half second, of parts given as (seconds, score)."""
    windows: list[tuple[float, float | None]] = []
    for seconds, score in parts:
        windows += [((len(windows) + i) * 0.5, score) for i in range(int(seconds * 2))]
    return windows


def test_an_event_fires_once_and_ends_once() -> None:
    turns = play(Rule(0.7, 0.5, 2.0, 60.0), every_half_second((10, 0.1), (10, 0.8), (10, 0.1)))
    assert turns == [Turn("start", 12.0, 10.0, 0.8), Turn("end", 22.0, 20.0, 0.8)]


def test_what_is_too_short_does_not_fire() -> None:
    assert play(Rule(0.7, 0.5, 2.0), every_half_second((5, 0.1), (2, 0.9), (5, 0.1))) == []


def test_a_score_between_the_two_thresholds_changes_nothing() -> None:
    rule = Rule(0.7, 0.5, 1.0, 0.0)
    turns = play(rule, every_half_second((5, 0.6), (5, 0.8), (5, 0.6), (5, 0.4), (5, 0.6)))
    assert [(turn.kind, turn.since) for turn in turns] == [("start", 5.0), ("end", 15.0)]


def test_a_short_interruption_is_no_end() -> None:
    turns = play(Rule(0.7, 0.5, 3.0, 0.0), every_half_second((5, 0.8), (2, 0.1), (5, 0.8)))
    assert [turn.kind for turn in turns] == ["start"]


def test_windows_that_were_not_encoded_keep_the_score() -> None:
    turns = play(Rule(0.7, 0.5, 5.0), [(0.0, 0.9), *((0.5 * i, None) for i in range(1, 20))])
    assert turns == [Turn("start", 5.0, 0.0, 0.9)]
    assert play(Rule(0.0, 0.0, 0.0), [(0.0, None), (5.0, None)]) == []  # none was ever encoded


def test_it_fires_again_only_after_the_time_since_the_end() -> None:
    rule = Rule(0.7, 0.5, 1.0, 20.0)
    turns = play(rule, every_half_second((5, 0.8), (5, 0.1), (40, 0.8)))
    assert [(turn.kind, turn.at) for turn in turns] == [("start", 1.0), ("end", 6.0), ("start", 26.0)]


def test_nothing_begins_in_quiet_hours_and_what_lasts_begins_after_them() -> None:
    rule, state, begun = Rule(0.7, 0.5, 1.0), AlertState(), []
    for i in range(40):
        state, turn = advance(state, rule, i * 0.5, 0.9, quiet=i < 20)
        begun += [] if turn is None else [turn]
    assert begun == [Turn("start", 10.0, 0.0, 0.9)]


def test_an_event_that_began_before_the_quiet_hours_ends_in_them() -> None:
    rule, state = Rule(0.7, 0.5, 0.0), AlertState()
    state, start = advance(state, rule, 0.0, 0.9)
    state, end = advance(state, rule, 1.0, 0.1, quiet=True)
    assert start is not None and end is not None and end.kind == "end"


def test_the_end_of_the_source_ends_an_event() -> None:
    rule, state = Rule(0.7, 0.5, 0.0), AlertState()
    state, _ = advance(state, rule, 3.0, 0.9)
    state, end = finish(state, rule)
    assert end == Turn("end", 3.0, 3.0, 0.9) and finish(state, rule) == (state, None)


def test_a_long_gap_counts_for_little() -> None:
    rule = Rule(0.7, 0.5, 60.0)
    assert play(rule, [(0.0, 0.9), (3600.0, 0.9)]) == []
    assert play(rule, [(i * 3600.0, 0.9) for i in range(7)])[0].at == 6 * 3600.0  # a slow source still gets through


@given(rules(), streams)
def test_starts_and_ends_take_turns_and_starts_keep_their_distance(
    rule: Rule, stream: list[tuple[float, float | None, bool]]
) -> None:
    state, at, forward, last_end, kinds = AlertState(), 0.0, 0.0, None, []
    for step, score, quiet in stream:
        forward += max(step, 0.0)
        at += step
        state, turn = advance(state, rule, at, score, quiet)
        if turn is None:
            continue
        kinds.append(turn.kind)
        if turn.kind == "start":
            assert not quiet and state.score is not None and state.score >= min(rule.below, rule.above)
            assert last_end is None or forward - last_end >= rule.again_after - 1e-6 * max(forward, 1.0)
        else:
            last_end = forward
    assert kinds == ["start", "end"] * (len(kinds) // 2) + ["start"] * (len(kinds) % 2)


@given(rules(), st.floats(0, 1), st.lists(st.floats(0, LONGEST_STEP), min_size=1, max_size=60))
def test_a_lasting_condition_fires_once_as_soon_as_it_has_lasted(rule: Rule, score: float, gaps: list[float]) -> None:
    times = [sum(gaps[:i]) for i in range(len(gaps) + 1)]
    turns = play(rule, [(at, score) for at in times])
    lasted = [at for at in times if at >= rule.hold + 1e-6]
    if score < rule.above:
        assert turns == []
    elif lasted:
        assert len(turns) == 1 and turns[0].at <= lasted[0]
    assert len(turns) <= 1


@given(rules(), streams)
def test_a_state_can_be_stored_at_any_time(rule: Rule, stream: list[tuple[float, float | None, bool]]) -> None:
    state, restored, at = AlertState(), AlertState(), 0.0
    for step, score, quiet in stream:
        at += step
        state, turn = advance(state, rule, at, score, quiet)
        restored, same = advance(restored, rule, at, score, quiet)
        assert turn == same
        text = json.dumps(dataclasses.asdict(restored), allow_nan=False)
        assert len(text) < 300
        restored = AlertState(**json.loads(text))
        assert restored == state and 0 <= state.rest <= rule.again_after
