"""Alerts tried on a recording: when each would have fired, and which threshold fits moments that are marked."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from vlj_edge.results import WindowEmbedding

from .decision import AlertState, Rule, Turn, advance, finish, log_odds, look
from .score import Scorer

_CANDIDATES = tuple(round(0.02 * step, 2) for step in range(1, 50))
_NEAR = 0.3  # log-odds: thresholds that near to each other are about as good
_COST_OF_CHANGE = 0.6  # marks that a threshold has to gain for each unit of log-odds that it is away from the present
_LATE = 2.0  # seconds after a mark, besides those that an alert waits for, in which a beginning belongs to it


@dataclass(frozen=True)
class ScoredWindow:
    """A window of a recording: seconds, and its score, 0..1; None: it looks like the one before."""

    start: float
    end: float
    score: float | None


@dataclass(frozen=True)
class Mark:
    """A part of a recording, seconds, in which an alert is right to begin, or wrong; `where` names it in errors."""

    start: float
    end: float
    right: bool
    where: str = field(default="", compare=False, repr=False)


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


def averaged(windows: Iterable[ScoredWindow]) -> list[ScoredWindow]:
    """Return windows with the mean of the latest scores, by which an alert decides; None before the first score."""
    state, found = AlertState(), []
    for window in windows:
        state, _ = look(state, Rule(), window.end, window.end, window.score)
        found.append(replace(window, score=state.score))
    return found


def play(rule: Rule, windows: Iterable[ScoredWindow]) -> list[Turn]:
    """Return the beginnings and ends of events. A window is known at its end, so that is its time."""
    return _decided(rule, averaged(windows))


def judge(rule: Rule, windows: Sequence[ScoredWindow], marks: Sequence[Mark]) -> Outcome:
    """Return how an alert does. Where nothing is marked as wrong, everything is that is not marked as right."""
    return _judged(rule, averaged(windows), marks)


def suggest(rule: Rule, recordings: Sequence[tuple[Sequence[ScoredWindow], Sequence[Mark]]]) -> Outcome:
    """Return a threshold that does well on marks, and its outcome, which is no worse than that of `rule`.

    Few marks say little: a threshold counts as good as those beside it, and one far from that of `rule` has to gain
    more. The distance to the lower threshold, as a share of the upper one, stays.
    """
    share = rule.below / rule.above if rule.above > 0 else 1.0
    means = [(averaged(windows), marks) for windows, marks in recordings]

    def outcome(above: float) -> Outcome:
        tried = replace(rule, above=above, below=above * share)
        each = [_judged(tried, windows, marks) for windows, marks in means]
        return Outcome(above, sum(o.right for o in each), sum(o.found for o in each), sum(o.wrong for o in each))

    now, outcomes = outcome(rule.above), [outcome(above) for above in _CANDIDATES]
    gains = [each.gain for each in outcomes]
    places = [log_odds(above) for above in _CANDIDATES]
    best, highest = now, _smooth(gains, places, log_odds(rule.above))
    for each, place in zip(outcomes, places, strict=True):
        worth = _smooth(gains, places, place) - _COST_OF_CHANGE * abs(place - log_odds(rule.above))
        if each.gain >= now.gain and worth > highest:
            best, highest = each, worth
    return best


def _smooth(gains: Sequence[int], places: Sequence[float], at: float) -> float:
    """Return the mean of the gains, those of near thresholds most; places and distances are in log-odds."""
    weights = [math.exp(-(((place - at) / _NEAR) ** 2) / 2) for place in places]
    return sum(weight * gain for weight, gain in zip(weights, gains, strict=True)) / max(sum(weights), 1e-300)


def _decided(rule: Rule, means: Iterable[ScoredWindow]) -> list[Turn]:
    state, found = AlertState(), []
    for window in means:
        state, turn = advance(state, rule, window.end, window.score)
        found += [] if turn is None else [turn]
    _, turn = finish(state, rule)
    return found + ([] if turn is None else [turn])


def _judged(rule: Rule, means: Sequence[ScoredWindow], marks: Sequence[Mark]) -> Outcome:
    late, strict = rule.hold + _LATE, any(not mark.right for mark in marks)
    right = [mark for mark in marks if mark.right]
    found, wrong = set(), 0
    for turn in _decided(rule, means):
        if turn.kind == "end":
            continue
        inside = [mark for mark in right if mark.start <= turn.at <= mark.end + late]
        found.update(inside)
        missed = [mark for mark in marks if not mark.right and mark.start <= turn.at <= mark.end + late]
        wrong += not inside and bool(missed or not strict)
    return Outcome(rule.above, len(right), len(found), wrong)
