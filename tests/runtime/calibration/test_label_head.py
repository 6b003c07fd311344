"""The two numbers of a label head: when none of its labels is right, and how long a label stays."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from vlj_edge.bundle import LabelHead
from vlj_edge.errors import VljEdgeError
from vlj_edge.runtime.calibration.events import AnnotatedEvent
from vlj_edge.runtime.calibration.figures import cut, total
from vlj_edge.runtime.calibration.label_head import LabelReference, find_head, label_each
from vlj_edge.runtime.calibration.search import Effort, Found

LABELS = ["Opening something", "Closing something", "Waving"]
OWN = LabelHead("labels.txt", none_below=0.2, lead=0.0)
SECONDS = 6  # of each event, a window a second
EFFORT = Effort(drawn=60, rounds=2, best=2, varied=2)


def stream(noise: float, gaps: bool) -> tuple[np.ndarray, list[AnnotatedEvent]]:
    """Logits of 40 events, float32 [windows, 3], and the events. In gaps, which are as long as an event, the likeliest
    label has about 0.45; in events the right one has about 0.6, and the next label comes near it at times."""
    rng, logits, events, time = np.random.default_rng(0), [], [], 0
    for number in range(40):
        right, rival = number % 3, (number + 1) % 3
        shown = np.zeros((SECONDS, 3))
        shown[:, right] = 2.0
        shown[:, rival] = 1.0 + noise * rng.normal(size=SECONDS)
        logits.append(shown)
        events.append(AnnotatedEvent(time, time + SECONDS, (LABELS[right].upper(),)))
        time += SECONDS
        if gaps:
            nothing = np.zeros((SECONDS, 3))
            nothing[np.arange(SECONDS), rng.integers(0, 3, SECONDS)] = 0.5
            logits.append(nothing)
            time += SECONDS
    return np.concatenate(logits).astype(np.float32), events


def find(logits: np.ndarray, events: list[AnnotatedEvent], own: LabelHead = OWN) -> Found[LabelHead]:
    windows = [SimpleNamespace(embedding=row) for row in logits]
    recording: Any = SimpleNamespace(windows=windows, centres=np.arange(len(logits)) + 0.5)
    chain = SimpleNamespace(label_head=(None, LABELS), label_logits=lambda embedding: embedding)
    model: Any = SimpleNamespace(chain=chain, manifest=SimpleNamespace(label_head=own), directory=Path("bundle"))
    return find_head(model, recording, events, cut(recording.centres, 20, 1.0), 0, EFFORT, lambda _: None)


def test_none_below_lies_between_what_is_nothing_and_what_is_something() -> None:
    found = find(*stream(noise=0.2, gaps=True))
    assert found.improved and total(found.own).quality < 0.6
    assert total(found.held_out).quality > 0.95
    assert 0.45 < found.settings.none_below < 0.66 and found.settings.file == OWN.file


def test_a_lead_keeps_a_label_that_another_comes_near() -> None:
    found = find(*stream(noise=0.9, gaps=False))
    assert found.improved and found.settings.lead > 0.02
    assert found.settings.none_below == OWN.none_below, "nothing says what is none of the labels"
    assert total(found.held_out).quality > total(found.own).quality + 0.02


def test_what_is_right_already_stays() -> None:
    own = LabelHead("labels.txt", none_below=0.55, lead=0.05)
    found = find(*stream(noise=0.0, gaps=True), own)
    assert not found.improved and found.settings == own


def test_a_caption_that_is_no_label_is_one_line() -> None:
    logits, _ = stream(0.0, gaps=False)
    with pytest.raises(VljEdgeError, match=r"'Opening a thing'.*'Opening something'"):
        find(logits, [AnnotatedEvent(0.0, 10.0, ("Opening a thing",))])


def test_time_outside_all_events_is_not_judged() -> None:
    reference = LabelReference([frozenset(), frozenset({"Waving"}), frozenset(), frozenset({"Waving"}), frozenset()])
    assert [reference.judged(n) for n in range(5)] == [False, True, True, True, False]
    assert reference.knows_nothing and reference.agrees(2, "") and not reference.agrees(2, "Waving")
    assert reference.agrees(1, "Waving") and not reference.agrees(1, "")


def test_each_window_is_named_with_regard_to_the_text_before() -> None:
    seen = np.array([[0.6, 0.4, 0], [0.45, 0.55, 0], [0.34, 0.33, 0.33], [0.45, 0.55, 0], [0.1, 0.9, 0]], np.float32)
    found = label_each(seen, LABELS, LabelHead("labels.txt", none_below=0.4, lead=0.2))
    opening, closing, _ = LABELS
    assert found.standing == [opening, opening, "", opening, closing]
    assert found.texts.tolist() == [1, 0, 0, 0, 1]
