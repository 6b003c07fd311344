"""Alerts tried on recordings: thresholds from marks."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vlj_edge.runtime.alerts.decision import Rule
from vlj_edge.runtime.alerts.trial import Mark, ScoredWindow, averaged, judge, play, suggest


def windows(*parts: tuple[float, float | None]) -> list[ScoredWindow]:
    """Windows of 2 s every half second, of parts given as (seconds, score)."""
    found: list[ScoredWindow] = []
    for seconds, score in parts:
        for _ in range(round(seconds * 2)):
            found.append(ScoredWindow(len(found) / 2, len(found) / 2 + 2, score))
    return found


RULE = Rule(0.5, 0.35, 1.0, 0.0)


def test_an_event_is_known_at_the_end_of_its_window() -> None:
    assert [turn.at for turn in play(RULE, windows((5, 0.1), (5, 0.9), (5, 0.1)))] == [8.0, 13.5]
    assert [turn.kind for turn in play(RULE, windows((5, 0.1), (5, 0.9)))] == ["start", "end"]


def test_what_is_not_marked_counts_as_wrong_unless_something_is() -> None:
    seen = windows((5, 0.1), (5, 0.9), (5, 0.1), (5, 0.9))
    right = Mark(5, 10, True)
    assert judge(RULE, seen, [right]).wrong == 1
    assert judge(RULE, seen, [right, Mark(0, 3, False)]).wrong == 0
    both = judge(RULE, seen, [right, Mark(15, 20, False)])
    assert (both.right, both.found, both.wrong) == (1, 1, 1)


def test_the_suggestion_lies_between_what_is_right_and_what_is_wrong() -> None:
    seen = windows((5, 0.1), (5, 0.9), (5, 0.1), (5, 0.7), (5, 0.1))
    best = suggest(RULE, [(seen, [Mark(5, 10, True)])])
    assert 0.7 < best.above <= 0.9 and (best.found, best.wrong) == (1, 0)


def test_several_recordings_count_together() -> None:
    one, other = windows((5, 0.1), (5, 0.9), (5, 0.1)), windows((5, 0.1), (5, 0.6), (5, 0.1))
    best = suggest(RULE, [(one, [Mark(5, 10, True)]), (other, [Mark(50, 60, True)])])
    assert 0.6 < best.above <= 0.9 and (best.right, best.found, best.wrong) == (2, 1, 0)


@given(st.lists(st.tuples(st.sampled_from([1, 3, 5]), st.none() | st.floats(0, 1)), min_size=1, max_size=8))
def test_the_suggestion_does_no_worse_than_the_present_threshold(parts: list[tuple[float, float | None]]) -> None:
    seen, marks = windows(*parts), [Mark(2, 6, True)]
    for above in (0.1, 0.5, 0.9):
        rule = Rule(above, above * 0.7, 1.0, 0.0)
        best = suggest(rule, [(seen, marks)])
        assert best.gain >= judge(rule, seen, marks).gain
        assert best == judge(Rule(best.above, best.above * 0.7, 1.0, 0.0), seen, marks)


def test_few_marks_move_a_threshold_less_than_many() -> None:
    seen = windows((5, 0.1), (5, 0.95), (5, 0.1), (5, 0.9), (5, 0.1))
    stays, moves = (suggest(RULE, [(seen, [Mark(5, 10, True)])] * count) for count in (1, 20))
    assert stays.above <= moves.above and moves.wrong == 0 and moves.found == 20
    nothing = suggest(RULE, [(windows((5, 0.1)), [Mark(5, 10, True)])])
    assert nothing.above == RULE.above


def test_single_windows_that_are_wrong_change_little() -> None:
    rule = Rule(0.6, 0.42, 0.0, 0.0)
    noisy = windows((5, 0.1), (0.5, 0.9), (5, 0.1), (2, 0.9), (0.5, 0.1), (2, 0.9), (5, 0.1))
    turns = play(rule, noisy)
    assert [turn.kind for turn in turns] == ["start", "end"] and 12.5 <= turns[0].at < 14
    shown = averaged(noisy)
    assert [window.end for window in shown] == [window.end for window in noisy]
    assert max(window.score or 0.0 for window in shown) < 0.95 and turns[0].score in [each.score for each in shown]


def test_a_mean_takes_up_what_stays_and_forgets_a_gap() -> None:
    still = averaged([ScoredWindow(0, 2, 0.1), *(ScoredWindow(t, t + 2, 0.8 if t == 1 else None) for t in range(1, 9))])
    assert [each.score for each in still] == sorted(each.score or 0.0 for each in still)
    assert abs((still[-1].score or 0.0) - 0.8) < 0.01
    assert abs((averaged([ScoredWindow(0, 2, 0.1), ScoredWindow(98, 100, 0.8)])[-1].score or 0.0) - 0.8) < 1e-6
    assert averaged([ScoredWindow(0, 2, None)])[0].score is None
