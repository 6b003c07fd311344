"""Events without text: a change of the nearest label, or something novel."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vlj_edge.results import Window, WindowEmbedding
from vlj_edge.runtime.embedding.labels import LabelBank
from vlj_edge.runtime.embedding.novelty import NoveltyDetector, observe

BANK = LabelBank(("east", "north"), np.eye(2, dtype=np.float32), "space")


def at(degrees: float) -> np.ndarray:
    return np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], np.float32)


def items(angles: list[float]) -> list[WindowEmbedding]:
    return [WindowEmbedding(Window(n, n / 2, n / 2 + 2), at(angle), True) for n, angle in enumerate(angles)]


def test_another_label_is_an_event_once_it_stays() -> None:
    found = list(observe(items([0, 0, 80, 0, 90, 90, 90, 200, 200]), BANK, 0.0, None))
    assert [each.label_index for each in found] == [0, 0, 1, 0, 1, 1, 1, -1, -1]
    assert [(n, each.label) for n, each in enumerate(found) if each.event == "label"] == [
        (1, "east"),
        (5, "north"),
        (8, None),
    ]
    assert found[8].as_dict() == {
        "time": 5.0, "start": 4.0, "end": 6.0, "encoded": True, "label": None, "similarity": -0.342, "event": "label"
    }  # fmt: skip


def test_something_new_is_an_event_once() -> None:
    found = list(observe(items([0, 5, 90, 95, 0, 180]), None, 0.0, NoveltyDetector(0.9, 2)))
    assert [each.event for each in found] == ["novel", None, "novel", None, None, "novel"]
    assert found[0].nearest == -1 and abs(found[2].nearest or 0) < 1e-6
    assert "label" not in found[0].as_dict()


def test_both_at_once_is_told_as_the_label_with_how_new_it_is() -> None:
    [_, second] = observe(items([0, 20]), BANK, 0.0, NoveltyDetector(0.99, 2))
    assert second.event == "label" and second.nearest is not None


@given(st.lists(st.floats(0, 360), max_size=40), st.floats(-1, 1), st.integers(1, 5))
def test_novelty_is_distance_from_all_that_is_remembered(angles: list[float], below: float, capacity: int) -> None:
    novelty, known = NoveltyDetector(below, 2, capacity), list[np.ndarray]()
    for angle in angles:
        nearest = max((float(k @ at(angle)) for k in known[-capacity:]), default=-1.0)
        found = novelty.update(at(angle))
        if abs(nearest - below) < 1e-5:
            return  # rounding decides
        assert (found is not None) == (nearest < below)
        if found is not None:
            known.append(at(angle))
