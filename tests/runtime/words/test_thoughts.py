"""What models think aloud is no answer, in whichever tags they do it."""

from __future__ import annotations

import time

import pytest

from vlj_edge.runtime.words.thoughts import without_thoughts

THOUGHT = "Is it a dog?\nNo <b>cat</b>."
PAIRS = [
    ("<think>", "</think>"),
    ("<Thinking>", "</Thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<analysis>", "</analysis>"),
    ('<think budget="9">', "</think>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|channel>thought\n", "<channel|>"),
    ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
    ("analysis", "assistantfinal"),  # the same where a server leaves out special tokens
]


@pytest.mark.parametrize(("begin", "end"), PAIRS)
def test_thoughts_are_no_answer(begin: str, end: str) -> None:
    assert without_thoughts(f"{begin}{THOUGHT}{end}\n\na cat sleeps ") == "a cat sleeps"


@pytest.mark.parametrize(("begin", "end"), PAIRS[:-2])
def test_one_of_the_tags_may_be_missing(begin: str, end: str) -> None:
    assert without_thoughts(f"{THOUGHT}{end} a cat sleeps") == "a cat sleeps"
    assert without_thoughts(f"a cat sleeps {begin}{THOUGHT}") == "a cat sleeps"
    assert without_thoughts(f"{begin}{THOUGHT}") == ""


def test_an_answer_that_never_came_is_empty() -> None:
    assert without_thoughts("<|channel|>analysis<|message|>Is it") == ""


@pytest.mark.parametrize(
    "text",
    [
        "<answer>a cat sleeps</answer>",
        "<think>no</think><answer>\na cat sleeps\n</answer>",
        "<|begin_of_box|>a cat sleeps<|end_of_box|>",
        "<answer>a cat sleeps",
        "a cat sleeps<|im_end|>",
        "a cat sleeps </s>",
        "<|channel|>final<|message|>a cat sleeps<|return|>",
    ],
)
def test_tags_around_an_answer_are_not_said(text: str) -> None:
    assert without_thoughts(text) == "a cat sleeps"


@pytest.mark.parametrize(
    "text",
    [
        "a thinker [thinks] of <b>reasoning</b>",
        "analysis of the picture: a cat",
        '{"answer": "<answer>"}',
        "a < b > c",
        "the final <answer> is here",
        "",
    ],
)
def test_what_is_no_such_tag_stays(text: str) -> None:
    assert without_thoughts(text) == text


@pytest.mark.parametrize(
    "piece",
    [
        "<think>",
        "</think>",
        "<|a|>",
        "<think ",
        "[THINK]",
        "analysis",
        "<answer>",
        "<|channel|>final",
        " </s>",
        " ",
        "x ",
    ],
)
def test_many_tags_take_no_time(piece: str) -> None:
    begun = time.process_time()
    without_thoughts(piece * (500_000 // len(piece)))
    assert time.process_time() - begun < 20
