"""The memory of answers: near meanings are answered again, and none of a stream that the model knows nothing like."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tests.runtime.colours import GATES, Pictures, scenes
from tests.runtime.gating.windows import SIZE, at_angle
from tests.runtime.tiny_bundle import BLUE, RED
from vlj_edge.bundle import CaptionMemorySettings
from vlj_edge.runtime.gating.answer_memory import AnswerMemory
from vlj_edge.runtime.model import Model

SETTINGS = CaptionMemorySettings(same=0.96, same_at_rest=0.0)


def known(said: bool = False) -> Any:
    return SimpleNamespace(said=said, manifest=SimpleNamespace(embedding=SIZE))


def test_one_answer_is_used_again_as_far_as_a_text_of_the_bundle_and_two_that_agree_farther() -> None:
    memory = AnswerMemory(SETTINGS, known())
    memory.put(at_angle(0), "it moves", False)
    assert memory.recall_unless(at_angle(16), False, "") == "it moves"  # cosine 0.961
    assert memory.recall_unless(at_angle(20), False, "") is None and memory.like == "it moves"  # 0.94
    memory.put(at_angle(12), "It moves.", False)
    assert memory.recall_unless(at_angle(20), False, "") == "It moves."  # the nearer one
    assert memory.recall_unless(at_angle(40), False, "") is None  # 0.88 of the nearer, 0.77 of the other
    assert memory.recall_unless(at_angle(60), False, "") is None and memory.like == ""
    assert memory.recall_unless(at_angle(0), True, "") is None and memory.like == ""


def test_of_two_answers_that_are_about_as_near_none_is_used_again() -> None:
    memory = AnswerMemory(SETTINGS, known())
    for angle, text in ((0, "it moves"), (2, "it moves"), (25, "it stops"), (27, "it stops")):
        memory.put(at_angle(angle), text, False)
    assert memory.recall_unless(at_angle(5), False, "") == "it moves"  # another at 0.94
    assert memory.recall_unless(at_angle(13), False, "") is None
    assert memory.decision.checks[-1].name == "another" and not memory.decision.checks[-1].holds
    assert memory.recall_unless(at_angle(22), False, "") == "it stops"


def test_the_answer_that_stands_is_used_again_only_if_it_is_nearer_or_two_agree() -> None:
    memory = AnswerMemory(SETTINGS, known())
    memory.put(at_angle(0), "it moves", False)
    assert memory.recall_unless(at_angle(11), False, "it moves") == "it moves"  # cosine 0.982
    assert memory.recall_unless(at_angle(13), False, "it moves") is None  # 0.974
    assert memory.recall_unless(at_angle(13), False, "it is still") == "it moves"
    memory.put(at_angle(1), "it moves", False)
    assert memory.recall_unless(at_angle(13), False, "it moves") == "it moves"


def test_at_rest_one_answer_is_enough_and_the_nearest_counts() -> None:
    memory = AnswerMemory(CaptionMemorySettings(), known())
    memory.put(at_angle(0), "an empty room", True)
    memory.put(at_angle(20), "a cat on the sofa", True)
    assert memory.recall(at_angle(9), True) == "an empty room"
    assert memory.recall(at_angle(11), True) == "a cat on the sofa"
    assert memory.recall(at_angle(47), True) is None
    assert memory.recall(at_angle(0), False) is None


def test_three_that_agree_at_rest_hold_as_far_as_the_bundle_says() -> None:
    memory = AnswerMemory(SETTINGS, known())
    for angle in (-5, 95):
        memory.put(at_angle(angle), "nothing moves", True)
        assert memory.recall(at_angle(45), True) is None
    memory.put(at_angle(130), "nothing moves", True)
    assert memory.recall(at_angle(45), True) == "nothing moves"


def test_nothing_is_recalled_of_what_the_model_knows_nothing_like() -> None:
    knows = known()
    memory = AnswerMemory(SETTINGS, knows)
    memory.put(at_angle(0), "a cat", False)
    knows.said = True
    assert memory.recall_unless(at_angle(0), False, "") is None
    memory.put(at_angle(0), "a cat", False)
    assert memory.recall(at_angle(0), False) is None and memory.decision.cause == "off"
    assert AnswerMemory(CaptionMemorySettings(enabled=False), known()).recall_unless(at_angle(0), None, "") is None


@pytest.mark.parametrize("foreign", [False, True])
def test_a_run_asks_anew_about_what_the_model_knows_nothing_like(model: Model, foreign: bool) -> None:
    if foreign:
        model.chain.known.say()
    pictures = Pictures(scenes((RED, 16), (BLUE, 16), (RED, 16)))
    run = model.narrate(pictures, gates=GATES, words=lambda pictures, context: f"at {context.begins}")
    list(run)
    assert (run.totals.calls, run.totals.memory_hits) == ((3, 0) if foreign else (2, 1))
