"""JSON that a terminal may show."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from vlj_edge.json_text import json_text, with_escapes

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(VALUES)
def test_it_means_the_value_and_can_be_printed(value: Any) -> None:
    text = json_text(value)
    assert json.loads(text) == value and text.isprintable()


def test_lone_surrogates_and_what_reverses_text_are_escapes() -> None:
    assert json_text("\udcff\u202e\x9b\U000e0001é\u00a0") == r'"\udcff\u202e\u009b\udb40\udc01é\u00a0"'
    assert json_text([float("nan"), {"a": float("-inf")}, 1.5]) == '[null, {"a": null}, 1.5]'


@given(VALUES)
def test_lines_of_json_keep_their_meaning_and_their_lines(value: Any) -> None:
    text = json.dumps(value, indent=1, ensure_ascii=False)
    escaped = with_escapes(text)
    assert json.loads(escaped) == value and escaped.count("\n") == text.count("\n")
    assert all(line.isprintable() for line in escaped.splitlines())
