"""What vlj-edge alerts test prints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..json_text import json_text
from ..time_text import time_text
from .say import say

if TYPE_CHECKING:
    from vlj_edge.runtime.alerts.settings import Alert
    from vlj_edge.runtime.alerts.trial import Mark, Outcome, ScoredWindow

_WIDTH = 72
_BARS = " ▁▂▃▄▅▆▇█"
_GAP = "·"
_LONGEST_CARRY = 3.0  # of the usual step between windows, after which a plot shows a gap


def print_trial(alert: Alert, windows: Sequence[ScoredWindow], marks: Sequence[Mark], as_json: bool) -> None:
    """Print when an alert would have fired, its score, and the threshold that marks suggest."""
    from vlj_edge.runtime.alerts.trial import averaged, judge, play, suggest

    turns, means = play(alert.rule, windows), averaged(windows)
    now = judge(alert.rule, windows, marks) if marks else None
    best = suggest(alert.rule, [(windows, marks)]) if marks else None
    if as_json:
        events = [
            {"kind": turn.kind, "at": turn.at, "since": turn.since, "score": round(turn.score, 4)} for turn in turns
        ]
        scores = [[window.start, window.end, round(window.score, 4)] for window in means if window.score is not None]
        found = {"alert": alert.name, "above": alert.rule.above, "events": events, "scores": scores}
        if now is not None and best is not None:
            found |= {"marks": _figures(now), "suggested": _figures(best)}
        say(json_text(found))
        return
    say(alert.name)
    for turn in turns:
        what = ("begins", "holds", "score") if turn.kind == "start" else ("ends  ", "over", "highest score")
        say(
            f"  {time_text(turn.at):>9}  {what[0]}  {what[1]} since {time_text(turn.since)}, {what[2]} {turn.score:.2f}"
        )
    if not turns:
        say(f"  never: {_why_never(alert, means)}")
    if means:
        for line in plot(means):
            say(f"  {line}")
    if now is not None and best is not None:
        say(f"  above = {now.above:g}: {_in_words(now)}")
        say(f"  above = {best.above:g}: {_in_words(best)}  (suggested)")


def _why_never(alert: Alert, means: Sequence[ScoredWindow]) -> str:
    highest = max((window.score for window in means if window.score is not None), default=0.0)
    if highest >= alert.rule.above:
        return f"the score reaches {highest:.2f}, but not for as long as `for`, {time_text(alert.rule.hold)}"
    return f"the highest score is {highest:.2f}, and above is {alert.rule.above:g}"


def plot(windows: Sequence[ScoredWindow]) -> list[str]:
    """Return the scores of windows as a line of bars, 0..1, and their times below.

    All columns are as long; each shows the highest score of the windows that end in it, and a dot where there is none
    for longer than usual.
    """
    start, end = windows[0].start, max(windows[-1].end, windows[0].start + 0.1)
    ends = [window.end for window in windows]
    step = sorted(b - a for a, b in zip([start, *ends], ends, strict=False))[len(ends) // 2] or 0.5
    width = max(1, min(_WIDTH, round((end - start) / step)))
    each = (end - start) / width
    columns: list[float | None] = [None] * width
    last, at, score = start, 0, 0.0
    for window in windows:
        column = min(int((window.end - start) / each - 1e-9), width - 1)
        score = score if window.score is None else window.score
        if at < column and window.end - last <= _LONGEST_CARRY * max(step, each):
            columns[at + 1 : column] = [columns[at]] * (column - at - 1)
        columns[column] = max(columns[column] or 0.0, score)
        last, at = window.end, column
    bars = "".join(_GAP if score is None else _BARS[min(int(score * len(_BARS)), len(_BARS) - 1)] for score in columns)
    return [f"|{bars}|", f" {_ticks(start, each, width)}", f" one column is {time_text(each)}"]


def _ticks(start: float, each: float, width: int) -> str:
    """Return times, each below the column that begins then, the last one at the end."""
    line = ""
    for column in range(0, width, 18):
        line = f"{line:<{column}}{time_text(start + column * each)}"
    last = time_text(start + width * each)
    if len(line) >= width - len(last):
        line = line[: max(0, line.rfind(" "))].rstrip() if " " in line else line
    return f"{line} {last:>{max(0, width - len(line) - 1)}}"


def _figures(outcome: Outcome) -> dict[str, float]:
    return {"above": outcome.above, "right": outcome.right, "found": outcome.found, "wrong": outcome.wrong}


def _in_words(outcome: Outcome) -> str:
    return f"{outcome.found} of {outcome.right} right parts found, {outcome.wrong} events that are wrong"
