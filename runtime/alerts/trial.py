"""Alerts tried on a recording: when each would have fired, and which threshold fits moments that are marked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from vlj_edge.results import WindowEmbedding

from .decision import AlertState, Rule, Turn, advance, finish
from .score import Scorer

_CANDIDATES = tuple(round(0.02 * step, 2) for step in range(1, 50))
_LATE = 2.0  # seconds after a mark, besides those that an alert waits for, in which a beginning belongs to it


@dataclass(frozen=True)
class ScoredWindow:
    """A window of a recording: seconds, and its score, 0..1; None: it looks like the one before."""

    start: float
    end: float
    score: float | None


@dataclass(frozen=True)
class Mark:
    """A part of a recording, seconds, in which an alert is right to begin, or wrong."""

    start: float
    end: float
    right: bool


@dataclass(frozen=True)
class Outcome:
    """How an alert does on marks.

    Attributes:
        right, found: marks that are right, and those in which an event began.
        wrong: events that began where they should not.
    """

    above: float
    right: int
    found: int
    wrong: int

    @property
    def gain(self) -> int:
        """Marks that were found, less the events that are wrong."""
        return self.found - self.wrong


def score_all(items: Iterable[WindowEmbedding], scorers: Sequence[Scorer]) -> list[list[ScoredWindow]]:
    """Return the scored windows of a recording for each scorer."""
    found: list[list[ScoredWindow]] = [[] for _ in scorers]
    for item in items:
        for scored, scorer in zip(found, scorers, strict=True):
            score = scorer(item.embedding) if item.encoded else None
            scored.append(ScoredWindow(item.window.start, item.window.end, score))
    return found


def play(rule: Rule, windows: Iterable[ScoredWindow]) -> list[Turn]:
    """Return the beginnings and ends of events. A window is known at its end, so that is its time."""
    state, found = AlertState(), []
    for window in windows:
        state, turn = advance(state, rule, window.end, window.score)
        found += [] if turn is None else [turn]
    _, turn = finish(state, rule)
    return found + ([] if turn is None else [turn])


def judge(rule: Rule, windows: Sequence[ScoredWindow], marks: Sequence[Mark]) -> Outcome:
    """Return how an alert does. Where nothing is marked as wrong, everything is that is not marked as right."""
    late, strict = rule.hold + _LATE, any(not mark.right for mark in marks)
    right = [mark for mark in marks if mark.right]
    found, wrong = set(), 0
    for turn in play(rule, windows):
        if turn.kind == "end":
            continue
        inside = [mark for mark in right if mark.start <= turn.at <= mark.end + late]
        found.update(inside)
        missed = [mark for mark in marks if not mark.right and mark.start <= turn.at <= mark.end + late]
        wrong += not inside and bool(missed or not strict)
    return Outcome(rule.above, len(right), len(found), wrong)


def suggest(rule: Rule, recordings: Sequence[tuple[Sequence[ScoredWindow], Sequence[Mark]]]) -> Outcome:
    """Return the best outcome and its threshold: the middle of those that do as well.

    The distance to the lower threshold, as a share of the upper one, stays.
    """
    share = rule.below / rule.above if rule.above > 0 else 1.0
    outcomes = []
    for above in _CANDIDATES:
        tried = replace(rule, above=above, below=above * share)
        each = [judge(tried, windows, marks) for windows, marks in recordings]
        outcomes.append(
            Outcome(above, sum(o.right for o in each), sum(o.found for o in each), sum(o.wrong for o in each))
        )
    best = max(outcome.gain for outcome in outcomes)
    runs: list[list[Outcome]] = [[]]
    for outcome in outcomes:
        if outcome.gain == best:
            runs[-1].append(outcome)
        elif runs[-1]:
            runs.append([])
    widest = max(runs, key=len)
    return widest[len(widest) // 2]
