"""What vlj-edge alerts test prints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..json_text import json_text
from .say import say

if TYPE_CHECKING:
    from vlj_edge.runtime.alerts.settings import Alert
    from vlj_edge.runtime.alerts.trial import Mark, Outcome, ScoredWindow

_WIDTH = 72
_BARS = " ▁▂▃▄▅▆▇█"


def print_trial(alert: Alert, windows: Sequence[ScoredWindow], marks: Sequence[Mark], as_json: bool) -> None:
    """Print when an alert would have fired, its score, and the threshold that marks suggest."""
    from vlj_edge.runtime.alerts.trial import judge, play, suggest

    turns = play(alert.rule, windows)
    now = judge(alert.rule, windows, marks) if marks else None
    best = suggest(alert.rule, [(windows, marks)]) if marks else None
    if as_json:
        events = [
            {"kind": turn.kind, "at": turn.at, "since": turn.since, "score": round(turn.score, 4)} for turn in turns
        ]
        scores = [[window.start, window.end, round(window.score, 4)] for window in windows if window.score is not None]
        found = {"alert": alert.name, "above": alert.rule.above, "events": events, "scores": scores}
        if now is not None and best is not None:
            found |= {"marks": _figures(now), "suggested": _figures(best)}
        say(json_text(found))
        return
    say(alert.name)
    for turn in turns:
        verb = "begins" if turn.kind == "start" else "ends  "
        say(f"  {turn.at:6.1f} s  {verb}  since {turn.since:.1f} s, score {turn.score:.2f}")
    if not turns:
        highest = max((window.score for window in windows if window.score is not None), default=0.0)
        say(f"  never: the highest score is {highest:.2f}, and above is {alert.rule.above:g}")
    if windows:
        say(f"  |{plot(windows)}|")
        ends = f"{windows[0].start:.0f} s", f"{windows[-1].end:.0f} s"
        say(f"   {ends[0]} {ends[1]:>{max(0, min(_WIDTH, len(windows)) - len(ends[0]) - 1)}}")
    if now is not None and best is not None:
        say(f"  above = {now.above:g}: {_in_words(now)}")
        say(f"  above = {best.above:g}: {_in_words(best)}  (suggested)")


def plot(windows: Sequence[ScoredWindow]) -> str:
    """Return the scores of windows as bars, 0..1, the highest of each column."""
    scores, last = [], 0.0
    for window in windows:
        last = last if window.score is None else window.score
        scores.append(last)
    width = min(_WIDTH, len(scores))
    columns = [scores[len(scores) * i // width : len(scores) * (i + 1) // width] for i in range(width)]
    return "".join(_BARS[min(int(max(column) * len(_BARS)), len(_BARS) - 1)] for column in columns)


def _figures(outcome: Outcome) -> dict[str, float]:
    return {"above": outcome.above, "right": outcome.right, "found": outcome.found, "wrong": outcome.wrong}


def _in_words(outcome: Outcome) -> str:
    return f"{outcome.found} of {outcome.right} right parts found, {outcome.wrong} events that are wrong"
