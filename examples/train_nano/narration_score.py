"""How true a narration is of a video whose events are known (the JSON that make_stream.py writes)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vlj_edge.results import Narration

STEP = 0.1  # s
TOLERANCE = 0.5  # s: a window is 2 s long, so at the edge of an event it shows both sides


def score(events: Sequence[dict[str, Any]], said: Sequence[Narration]) -> dict[str, float]:
    """Two shares, 0..1. A text is true of an event when it is one of the event's captions.

    texts_true: of the texts, each at the centre of its window, within TOLERANCE.
    seconds_true: of the annotated time, every moment judged by the text that stands then, the last one said before it.
    """
    texts = [any(n.text in e["captions"] for e in _near(events, n.centre)) for n in said]
    moments = [_standing(said, time) in event["captions"] for event in events for time in _times(event)]
    return {
        "texts": len(texts),
        "texts_true": round(sum(texts) / max(len(texts), 1), 3),
        "seconds_true": round(sum(moments) / max(len(moments), 1), 3),
    }


def _near(events: Sequence[dict[str, Any]], time: float) -> list[dict[str, Any]]:
    return [e for e in events if e["start"] - TOLERANCE <= time <= e["end"] + TOLERANCE]


def _times(event: dict[str, Any]) -> list[float]:
    return [event["start"] + STEP * i for i in range(round((event["end"] - event["start"]) / STEP))]


def _standing(said: Sequence[Narration], time: float) -> str | None:
    before = [n.text for n in said if n.centre <= time]
    return before[-1] if before else None
