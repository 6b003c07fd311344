"""What is known of an alert on a source, and how that is kept over a restart."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Annotated, Literal

from vlj_edge.schema import Range, parse

from .decision import AlertState, Rule

_Share = Annotated[float, Range(0, 1)]


@dataclass(frozen=True)
class AlertStatus:
    """An alert on a source.

    Attributes:
        state: what is known of it.
        event: of AlertEvent, of the event that goes on, or was the last; None before the first.
        since: unix time at which that began; None before the first.
        events: number of events so far.
        asking: the event waits for an answer before it is told.
    """

    alert: str
    source: str
    state: AlertState = field(default_factory=AlertState)
    event: str | None = None
    since: float | None = None
    events: int = 0
    asking: bool = False


@dataclass(frozen=True)
class _Kept:
    """An AlertStatus as it is kept. Whether it waits or is idle is not: the next windows tell.

    Attributes:
        until: unix time from which it may fire again.
    """

    phase: Literal["firing", "waiting"]
    score: _Share | None
    best: _Share
    until: float
    event: str | None
    since: float | None
    events: Annotated[int, Range(0, 2**53)]


def as_kept(status: AlertStatus, clock: float) -> str:
    """Return a status as JSON; `clock` is the unix time. An event that waits for an answer is none yet."""
    state = status.state
    phase: Literal["firing", "waiting"] = "firing" if state.phase == "firing" and not status.asking else "waiting"
    kept = _Kept(phase, state.score, state.best, clock + state.rest, status.event, status.since, status.events)
    return json.dumps(vars(kept))


def restored(alert: str, source: str, text: str, rule: Rule, now: float, clock: float) -> AlertStatus:
    """Return a status that was kept. An event that went on goes on until its windows tell otherwise.

    However the clock was set in the meantime, it rests no longer than `rule` asks for.

    Args:
        text: of as_kept().
        now: the time that durations are measured by.
        clock: unix time.

    Raises:
        ValueError: it is damaged.
    """
    kept = parse(_Kept, json.loads(text))
    firing = kept.phase == "firing" and kept.event is not None
    rest = min(max(kept.until - clock, 0.0), rule.again_after)
    if firing:
        state = AlertState("firing", now, kept.score, holds=True, best=kept.best, latest=kept.score)
    else:
        state = AlertState("cooling" if rest > 0 else "idle", now, rest=rest)
    return AlertStatus(alert, source, state, kept.event, kept.since, kept.events)
