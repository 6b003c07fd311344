"""The accuracy of a narration of a video with annotated events (the JSON that make_stream.py writes)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vlj_edge import Narration
from vlj_edge.runtime.calibration.events import AnnotatedEvent
from vlj_edge.runtime.evaluation.narration import truths

TOLERANCE = 0.5  # s: a window is 2 s long, so at the edge of an event it shows both sides


def score(events: Sequence[dict[str, Any]], narrations: Sequence[Narration]) -> dict[str, float]:
    """Return two shares, 0..1. A text is true of an event if it is one of the event's captions.

    texts_true: the share of texts that are true of an event within TOLERANCE of the centre of their window.
    seconds_true: the share of the annotated time in which the latest text is true.
    """
    texts = [any(n.text in e["captions"] for e in _events_near(events, n.centre)) for n in narrations]
    annotated = [AnnotatedEvent(event["start"], event["end"], tuple(event["captions"])) for event in events]
    moments = truths(annotated, [(narration.begins, narration.text) for narration in narrations])
    return {
        "texts": len(texts),
        "texts_true": round(sum(texts) / max(len(texts), 1), 3),
        "seconds_true": round(sum(moments) / max(len(moments), 1), 3),
    }


def _events_near(events: Sequence[dict[str, Any]], time: float) -> list[dict[str, Any]]:
    return [e for e in events if e["start"] - TOLERANCE <= time <= e["end"] + TOLERANCE]
