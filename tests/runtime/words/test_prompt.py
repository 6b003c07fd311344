"""Answers that say that there is nothing to say."""

from __future__ import annotations

import pytest

from vlj_edge.runtime.words.prompt import is_nothing_new


@pytest.mark.parametrize(
    "text",
    [
        "nothing new",
        "Nothing new.",
        '"NOTHING_NEW"',
        "**Nothing new**",
        "Nothing new to report.",
        "Nothing new happens.",
    ],
)
def test_what_models_make_of_nothing_new(text: str) -> None:
    assert is_nothing_new(text)


@pytest.mark.parametrize("text", ["", "nothing", "Nothing new: a man walks in", "nothing new but a cat", "a new thing"])
def test_what_says_something_is_said(text: str) -> None:
    assert not is_nothing_new(text)
