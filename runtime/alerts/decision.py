"""When an alert fires: from the scores of windows to the beginnings and ends of events. No clock, no model.

look() averages the scores of the latest windows, and advance() decides:

idle --(score at `above`)--> pending --(for `hold` seconds)--> firing --(below `below` for as long)--> cooling
  ^                            |                                                                          |
  +-------(below `above`)------+          (`again_after` seconds after the end)                           |
  +-------------------------------------------------------------------------------------------------------+
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

Phase: TypeAlias = Literal["idle", "pending", "firing", "cooling"]

MEMORY = 0.7  # seconds: the weight of a window in the mean falls to 1/e within that
_SUREST = 0.999  # a score counts as no surer than that, or one window would outweigh all others
LONGEST_STEP = 10.0  # seconds that a gap between two windows counts for at most: nobody knows what was in it


@dataclass(frozen=True)
class Rule:
    """When an alert fires.

    Attributes:
        above: the score, 0..1, from which the alert's condition holds.
        below: the score under which it holds no longer; between the two it stays as it is. At most `above`.
        hold: seconds for which it must hold before the alert fires, and for which it must not before the event is over.
        again_after: seconds after the end of an event before which no other begins.
    """

    above: float = 0.5
    below: float = 0.4
    hold: float = 1.0
    again_after: float = 60.0


@dataclass(frozen=True)
class AlertState:
    """What is known of one alert on one source. Plain numbers, so that it can be stored and restored.

    Attributes:
        at: time of the last window, seconds on any clock; None before the first.
        score: that was decided by, 0..1: with look() the mean of the latest windows; None before the first.
        latest: with look(), of the last window that was encoded, 0..1; None before the first.
        seen: with look(), time of the last window in its source, seconds; None before the first.
        holds: whether the condition held in the last window.
        held: seconds for which the condition has been as it is.
        rest: seconds until the alert may fire again.
        best: while firing, the highest score of the event.
    """

    phase: Phase = "idle"
    at: float | None = None
    score: float | None = None
    holds: bool = False
    held: float = 0.0
    rest: float = 0.0
    best: float = 0.0
    latest: float | None = None
    seen: float | None = None


@dataclass(frozen=True)
class Turn:
    """An event begins or ends.

    Attributes:
        at: time of the window with which that was certain, on the clock of the windows.
        since: when the condition began to hold, or ceased to.
        score: that it was decided by; at the end, the highest of the event.
    """

    kind: Literal["start", "end"]
    at: float
    since: float
    score: float


def look(
    state: AlertState, rule: Rule, at: float, seen: float, score: float | None, quiet: bool = False
) -> tuple[AlertState, Turn | None]:
    """Take the next window of a source, as advance() does, but decide by the mean of the latest scores: single windows
    are often wrong.

    The mean is one of log-odds, with weights that fall exponentially with age. A source that begins again is looked at
    anew.

    Args:
        seen: time of the window in its source, seconds: windows may come late, several at once.
    """
    latest = mean = state.latest if score is None else score
    if latest is not None and state.score is not None and state.seen is not None and seen >= state.seen:
        weight = math.exp((state.seen - seen) / MEMORY)
        odds = weight * log_odds(state.score) + (1 - weight) * log_odds(latest)
        mean = 1 / (1 + math.exp(-odds))
    state, turn = advance(state, rule, at, mean, quiet)
    return replace(state, latest=latest, seen=seen), turn


def advance(
    state: AlertState, rule: Rule, at: float, score: float | None, quiet: bool = False
) -> tuple[AlertState, Turn | None]:
    """Take the next window of a source.

    The time that has passed is what the clock has moved forward; a clock that is set back counts as no time. Of a gap
    between two windows, LONGEST_STEP seconds at most count for how long the condition has held.

    Args:
        at: time of the window in seconds.
        score: 0..1; None: it was not encoded, since it looks like the one before, whose score is kept.
        quiet: nothing may begin now. What holds at the end of the quiet hours begins then.
    """
    passed = 0.0 if state.at is None else max(at - state.at, 0.0)
    rest = max(state.rest - passed, 0.0)
    score = state.score if score is None else score
    holds = score is not None and score >= (rule.below if state.holds else rule.above)
    held = state.held + min(passed, LONGEST_STEP) if holds == state.holds else 0.0
    now = replace(state, at=at, score=score, holds=holds, held=held, rest=rest)
    if state.phase == "firing":
        return _while_firing(now, rule, at)
    return _while_waiting(now, rule, at, quiet)


def log_odds(score: float) -> float:
    """Return the logarithm of the odds of a probability, at most about 7 and at least -7."""
    score = min(max(score, 1 - _SUREST), _SUREST)
    return math.log(score / (1 - score))


def finish(state: AlertState, rule: Rule) -> tuple[AlertState, Turn | None]:
    """Take the end of the source, with which an event is over."""
    if state.phase != "firing" or state.at is None:
        return state, None
    return _ended(state, rule, state.at)


def _while_waiting(now: AlertState, rule: Rule, at: float, quiet: bool) -> tuple[AlertState, Turn | None]:
    if now.rest > 0:
        return replace(now, phase="cooling"), None
    if not now.holds:
        return replace(now, phase="idle"), None
    if quiet or now.held < rule.hold or now.score is None:
        return replace(now, phase="pending"), None
    firing = replace(now, phase="firing", best=now.score)
    return firing, Turn("start", at, at - now.held, now.score)


def _while_firing(now: AlertState, rule: Rule, at: float) -> tuple[AlertState, Turn | None]:
    if now.holds:
        return replace(now, best=max(now.best, now.score or 0.0)), None
    if now.held < rule.hold:
        return now, None
    return _ended(now, rule, at)


def _ended(now: AlertState, rule: Rule, at: float) -> tuple[AlertState, Turn]:
    since = at if now.holds else at - now.held
    phase: Phase = "cooling" if rule.again_after > 0 else "idle"
    return replace(now, phase=phase, rest=rule.again_after, best=0.0), Turn("end", at, since, now.best)
