"""CIDEr and time against pycocoevalcap and figures by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pycocoevalcap.cider.cider import Cider as ReferenceCider

from vlj_edge.runtime.calibration.events import AnnotatedEvent
from vlj_edge.runtime.evaluation.narration import INTERVALS, Said, evenly, narration_figures, plain, truths

EVENTS = {
    Path("a.mp4"): [
        AnnotatedEvent(0.0, 4.0, ("A man opens the door.", "somebody opens a door")),
        AnnotatedEvent(4.0, 10.0, ("The man sits down",)),
    ],
    Path("b.mp4"): [AnnotatedEvent(1.0, 3.0, ("a dog runs over the grass",)), AnnotatedEvent(3.0, 5.0, ("rain",))],
}
TEXTS = {
    Path("a.mp4"): ((1.0, "somebody opens a door"), (5.0, "the man sits down on a chair")),
    Path("b.mp4"): ((2.0, "A dog, on the grass!"), (4.5, "Rain.")),
}


def test_cider_of_a_narration_is_pycocoevalcaps() -> None:
    events = [event for video in TEXTS for event in EVENTS[video]]
    references = {number: list(map(plain, event.captions)) for number, event in enumerate(events)}
    candidates = {n: [plain(text)] for n, (_, text) in enumerate(each for texts in TEXTS.values() for each in texts)}
    expected, _ = ReferenceCider().compute_score(references, candidates)
    measures, rates = narration_figures(
        EVENTS, {v: {every: Said(t, 2, 10.0) for every in (None, *INTERVALS)} for v, t in TEXTS.items()}
    )
    assert measures["cider"].value == pytest.approx(expected) and expected > 1
    assert measures["cider"].cases == 4 and measures["cider"].low is not None
    assert measures["cider_kept"].value == measures["decodes_saved"].value == 1
    assert rates[0].decodes_per_minute == pytest.approx(12)
    # of 10 + 4 s: 3 s of the first event, none of the second and the third, half a second of the last
    assert measures["true"].value == pytest.approx(3.5 / 14)


def test_without_texts_nothing_is_true() -> None:
    nothing: dict[int | None, Said] = {every: Said((), 0, 10.0) for every in (None, *INTERVALS)}
    measures, _ = narration_figures(EVENTS, dict.fromkeys(EVENTS, nothing))
    assert measures["cider"].value == measures["true"].value == 0
    assert {"cider_kept", "decodes_saved"}.isdisjoint(measures)


def test_a_text_is_true_until_the_next() -> None:
    events = [AnnotatedEvent(0.0, 2.0, ("x",)), AnnotatedEvent(2.0, 4.0, ("y",))]
    assert np.mean(truths(events, [(0.5, "x"), (3.0, "y")])) == pytest.approx(2.5 / 4)
    assert truths(events, []) == [False] * 40


def test_windows_in_the_middle_of_equal_intervals() -> None:
    centres = np.arange(10.5, 18, 0.5)  # 15 windows from 10 to 18 s
    assert evenly(centres, 10, 18, 4) == [1, 5, 9, 13]
    assert evenly(centres, 10, 18, 1) == [7]
    assert evenly(np.array([]), 0, 4, 4) == []


def test_words_are_compared_without_case_and_punctuation() -> None:
    assert plain("  The T-shirt, it's RED!\n(Rot.)") == "the t-shirt it's red rot"
