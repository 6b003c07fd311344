"""The right answers to questions follow from the states that the simulator recorded."""

from __future__ import annotations

import numpy as np
import pytest
from batches import encode_queries
from clips import ACT, APPROACH, ATTEMPT, STILL, Clip, Episode
from questions import OBJECTS, STATES, TASK_STATES, WAYS, all_questions, answer_meanings, picture_axes, questions
from tasks import TASKS
from texts import train_tokenizer

from vlj_edge.export.calibrated import read_queries
from vlj_edge.export.weights.locations import shipped_weights
from vlj_edge.presets import preset

COUNT = 20


def clip(
    task: str = "drawer-open",
    phase: int = ACT,
    last: int = 10,
    success: int = COUNT,
    path: tuple[float, float, float] = (0.0, 0.0, 0.0),
    azimuth: float = 90.0,
) -> Clip:
    """A clip that ends at frame `last` of an episode: 5 frames of approach, then `phase`, success from `success` on."""
    phases = np.array([APPROACH] * 5 + [phase] * (COUNT - 5), np.uint8)
    hand = np.linspace((0, 0, 0), path, COUNT).astype(np.float32)
    succeeded = np.arange(COUNT) >= success
    episode = Episode(task, 0, "training", azimuth, 0.0, np.empty(0), 0, 0, phases, succeeded, hand)
    return Clip(np.empty(0), episode, np.arange(last - 7, last + 1), phase)


def answers(some: Clip) -> dict[str, str]:
    return {question.kind: question.answer[0] for question in questions(some)}


def test_object_and_action_come_from_the_task() -> None:
    found = answers(clip())
    assert found["object"] == "it is the drawer"
    assert found["action"] == "the action is opening"
    assert "action" not in answers(clip(phase=STILL))
    assert "object" not in answers(clip("reach"))


@pytest.mark.parametrize(
    ("task", "before", "after"),
    [
        ("drawer-open", "the drawer is closed", "the drawer is open"),
        ("door-lock", "the lock is unlocked", "the lock is locked"),
    ],
)
def test_the_state_is_what_the_simulator_calls_done(task: str, before: str, after: str) -> None:
    assert answers(clip(task, last=19, success=12))["state"] == after
    assert "state" not in answers(clip(task, last=10)), "it is changing"
    assert "state" not in answers(clip(task, phase=ATTEMPT, last=19)), "it was changed, nobody knows how far"
    untouched = clip(task, phase=APPROACH, last=8)
    assert answers(untouched)["state"] == before


@pytest.mark.parametrize(
    ("path", "way"),
    # A camera at azimuth 90 looks along +y: +x is to its right, +z up.
    [((0.4, 0, 0), "right"), ((-0.4, 0, 0), "left"), ((0, 0, 0.4), "up"), ((0, 0, -0.4), "down")],
)
def test_the_way_of_the_hand_is_the_pictures(path: tuple[float, float, float], way: str) -> None:
    assert answers(clip(path=path))["way"] == WAYS[way][0]
    right, up = picture_axes(90.0, 0.0)
    assert np.allclose(right, (1, 0, 0)) and np.allclose(up, (0, 0, 1))


@pytest.mark.parametrize("path", [(0.02, 0, 0.01), (0.4, 0, 0.35), (0, 0.9, 0)])
def test_a_hand_that_goes_nowhere_clearly_is_not_asked_about(path: tuple[float, float, float]) -> None:
    assert "way" not in answers(clip(path=path))


def test_every_question_and_answer_fits_the_engines_and_means_one_thing() -> None:
    nano = preset("nano")
    tokenizer = train_tokenizer(nano.predictor.vocabulary)
    assert max(len(tokenizer.encode(text).ids) for text in all_questions()) <= nano.query_tokens
    texts = [text for group in answer_meanings() for text in group]
    assert len(set(texts)) == len(texts)
    for task, (thing, before, after) in TASK_STATES.items():
        assert task in TASKS and before != after and {before, after} == STATES[thing][1].keys()
    for question in questions(clip(last=19, success=12, path=(0.4, 0, 0))):
        assert question.answer in question.choices
        assert set(question.choices) <= set(answer_meanings())
    assert len(OBJECTS) > 15


def test_the_shipped_weights_name_the_questions_of_their_training() -> None:
    assert list(read_queries(shipped_weights())) == list(encode_queries(train_tokenizer(1024)))
