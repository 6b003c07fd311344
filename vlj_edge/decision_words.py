"""Decisions of the gates in words, with the numbers that they rest on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from .decisions import Check, Decision, TextReport
from .results import WindowReport

_TRUE = {"<": ">=", "<=": ">", ">": "<=", ">=": "<"}  # what is true where the operator's comparison is not
# What was measured, by the name of a check.
_VALUES = {
    "cells": "{} cells",
    "seconds": "still for {} s",
    "pictures": "{} pictures",
    "wander": "wandered {} cells",
    "restless": "always moving {}",
    "crept": "{} cells differ over the stretch",
    "changed": "light {}",
    "least_hold": "{} s since the text",
    "look_every": "{} s since the look",
    "look_at_rest": "{} s since the look",
    "longest_wait": "waited {} s",
    "calm_windows": "{} windows",
    "calm_variance": "variance {}",
    "settle": "settled {} s",
    "settle_moving": "settled {} s",
    "settle_resting": "settled {} s",
    "texts_per_hour": "{} texts saved up",
    "price": "a change of {}",
    "encodes_per_minute": "{} encoder runs saved up",
    "agreeing": "{} agree",
    "rival": "{} say another",
    "another": "another at {}",
}
_COSINES = ("speak_below", "speak_below_at_rest", "forget_above", "same_above", "same", "same_at_rest")
_RESTING = {"resting": "at rest", "moving": "moving", "unknown": "rest off"}
_MEANING = {
    "text": "TEXT",
    "waits": "waits",
    "dropped": "dropped",
    "same": "no news",
    "skipped": "no look",
    "refused": "refused",
}
_CAUSES = {
    "first": "the first window",
    "change": "a change",
    "overdue": "it waited until a turn",
    "off": "off",
}


class WindowWords(NamedTuple):
    """What the gates decided about a window; `why` has the numbers of the encoder and the meaning gate."""

    rest: str
    rest_why: str
    encoder: str
    meaning: str
    why: str


def window_as_dict(report: WindowReport) -> dict[str, Any]:
    """Return a report as plain JSON types, without the embedding."""
    window = report.window
    found = {"index": window.index, "start": window.start, "end": window.end, "similarity": report.similarity}
    found |= {"resting": report.resting, "spoke": report.spoke}
    return found | {"decisions": [decision.as_dict() for decision in report.decisions]}


def window_words(report: WindowReport) -> WindowWords:
    """Return the decisions about a window in words. The report is of a run, which has decisions."""
    rest, meaning, *others = report.decisions
    scenes = [decision for decision in others if decision.gate == "scene"]
    encoder = "encoded" if any(scene.verdict == "encoded" for scene in scenes) else "repeated" if scenes else "-"
    numbers = [
        *_causes(rest, meaning),
        *(check_text(check, meaning.noise, meaning.unrelated) for check in _deciding(meaning)),
    ]
    numbers += [f"{each.gate}: {check_text(check)}" for each in others for check in _deciding(each)]
    return WindowWords(
        _RESTING[rest.verdict], _why_resting(rest), encoder, _MEANING[meaning.verdict], "; ".join(numbers)
    )


def window_line(report: WindowReport) -> str:
    """Return the decisions about a window in columns: time, rest, encoder, meaning, why."""
    rest, rest_why, encoder, meaning, why = window_words(report)
    return f"{report.window.centre:6.1f} s  {rest:8} {rest_why:28} {encoder:9} {meaning:8} {why}".rstrip()


def text_words(report: TextReport) -> str:
    """Return where a text came from."""
    numbers = "; ".join(map(check_text, report.decision.checks)) or "nothing to compare with"
    return f"from the {report.origin} ({numbers}){'' if report.told else ', as before'}"


def text_line(report: TextReport) -> str:
    """Return the middle of the window, where its text came from, and the text."""
    centre = (report.start + report.end) / 2
    return f"{centre:6.1f} s  {text_words(report)}: {' '.join(report.text.split())}"


def check_text(check: Check, noise: float | None = None, unrelated: float | None = None) -> str:
    """Return a comparison as it turned out, such as `cosine 0.91 >= 0.9 speak_below`.

    Args:
        noise, unrelated: of the meaning gate's decision: what its thresholds follow.
    """
    value, bound = _numbers(check.value, check.bound)
    measured = _VALUES.get(check.name, "cosine {}").format(value)
    shown = f"{measured} {check.operator if check.holds else _TRUE[check.operator]} {bound}"
    if check.name in _COSINES or check.name in ("look_every", "look_at_rest"):
        shown += f" {check.name}"
    if check.bound == check.as_set:
        return shown
    why = ""
    if check.name in _COSINES:
        why = "" if unrelated is None else f", moments {unrelated:.4g}"
        if noise is not None and (noise < 1 or not why):
            why += f", noise {noise:.4g}"
    return f"{shown} (set to {check.as_set:.4g}{why})"


def _why_resting(rest: Decision) -> str:
    if not rest.checks:
        return ""
    moved = [check for check in rest.checks if check.name == "cells" and check.holds]
    last = max(moved, key=lambda check: check.value) if moved and rest.verdict == "moving" else rest.checks[-1]
    if rest.verdict == "resting":
        last = next((check for check in rest.checks if check.name == "seconds"), last)
    return check_text(last)


def _causes(rest: Decision, meaning: Decision) -> list[str]:
    if meaning.cause == "turn":
        return ["it came to rest" if rest.verdict == "resting" else "it began to move"]
    return [] if meaning.cause is None else [_CAUSES[meaning.cause]]


def _deciding(decision: Decision) -> Sequence[Check]:
    """Return the comparisons that a verdict rests on: cosines, and what it waits for; or those of the pictures."""
    checks = decision.checks
    if decision.gate == "scene":
        return [check for check in checks if check.holds] or checks[-1:]
    waits = decision.verdict in ("waits", "skipped", "refused")
    return [check for check in checks if check.name in _COSINES or (waits and check is checks[-1])]


def _numbers(value: float, bound: float) -> tuple[str, str]:
    """Return two numbers, with as many digits as tell them apart."""
    if not math.isfinite(value):
        return "infinite", f"{bound:.4g}"
    for digits in (3, 4, 6, 9, 17):
        shown = f"{value:.{digits}g}", f"{bound:.{digits}g}"
        if shown[0] != shown[1] or value == bound:
            return shown
    return shown
