"""The part of JSON Schema that answers are checked with, compared with jsonschema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlj_edge.errors import VljEdgeError
from vlj_edge.runtime.words.json_schema import NotAsAsked, check_schema, parse_answer, read_schema

_KINDS = st.sampled_from(["string", "integer", "number", "boolean", "null", "array"])
_LEAVES = st.none() | st.booleans() | st.integers(-3, 3) | st.floats(-3, 3) | st.text("ab", max_size=3)
_BOUND = st.integers(0, 3)
_SIMPLE = st.fixed_dictionaries(
    {},
    optional={
        "type": _KINDS | st.lists(_KINDS, min_size=1, max_size=2, unique=True),
        "enum": st.lists(_LEAVES, min_size=1, max_size=3),
        "const": _LEAVES,
        **dict.fromkeys(("minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems"), _BOUND),
        "items": st.fixed_dictionaries({"type": _KINDS}),
    },
)
_NAMES = st.sampled_from(["a", "b", "c"])
_SCHEMAS = st.fixed_dictionaries(
    {"type": st.just("object"), "properties": st.dictionaries(_NAMES, _SIMPLE, max_size=3)},
    optional={"required": st.lists(_NAMES, max_size=2, unique=True), "additionalProperties": st.booleans()},
)
_VALUES = st.dictionaries(_NAMES, _LEAVES | st.lists(_LEAVES, max_size=3), max_size=3)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(_SCHEMAS, _VALUES)
def test_answers_are_judged_as_jsonschema_does(schema: dict[str, Any], value: Any) -> None:
    check_schema(schema)
    try:
        found: Any = parse_answer(json.dumps(value), schema)
    except NotAsAsked:
        found = None
    assert (found == value) == jsonschema.Draft202012Validator(schema).is_valid(value)


@pytest.mark.parametrize(
    "schema",
    [
        [],
        {},
        {"type": "string"},
        {"type": "object", "oneOf": []},
        {"type": "object", "properties": {"a": {"$ref": "#"}}},
        {"type": "object", "properties": {"a": {"type": "int"}}},
        {"type": "object", "properties": {"a": {"type": []}}},
        {"type": "object", "properties": {"a": 3}},
        {"type": "object", "properties": []},
        {"type": "object", "required": "a"},
        {"type": "object", "properties": {"a": {"minimum": "1"}}},
        {"type": "object", "properties": {"a": {"maxLength": -1}}},
    ],
)
def test_a_schema_with_what_is_not_checked_is_refused(tmp_path: Path, schema: Any) -> None:
    path = tmp_path / "answer.json"
    path.write_text(json.dumps(schema))
    with pytest.raises(VljEdgeError, match=r"answer\.json"):
        read_schema(path)


@pytest.mark.parametrize("text", ["{", "\xff", "[" * 100_000])
def test_what_is_no_json_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "answer.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(VljEdgeError, match=r"answer\.json"):
        read_schema(path)


def test_a_schema_may_not_be_nested_without_end(tmp_path: Path) -> None:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(200):
        schema = {"type": "array", "items": schema}
    with pytest.raises(ValueError, match="deep"):
        check_schema({"type": "object", "properties": {"a": schema}})
