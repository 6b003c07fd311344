"""The part of JSON Schema that an answer in JSON can be asked for with, and whether an answer is as it says."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from vlj_edge.errors import VljEdgeError
from vlj_edge.regular_file import check_regular_file

_TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "number": lambda value: isinstance(value, (int, float)) and not isinstance(value, bool),
    "integer": lambda value: (
        not isinstance(value, bool) and (isinstance(value, int) or (isinstance(value, float) and value.is_integer()))
    ),
}
_BOUNDS: dict[str, tuple[type | tuple[type, ...], Callable[[Any, Any], bool]]] = {
    "minimum": ((int, float), lambda value, bound: value >= bound),
    "maximum": ((int, float), lambda value, bound: value <= bound),
    "minLength": (str, lambda value, bound: len(value) >= bound),
    "maxLength": (str, lambda value, bound: len(value) <= bound),
    "minItems": (list, lambda value, bound: len(value) >= bound),
    "maxItems": (list, lambda value, bound: len(value) <= bound),
}
_CHECKED = {"type", "properties", "required", "additionalProperties", "items", "enum", "const", *_BOUNDS}
_NOTES = {"$schema", "$id", "title", "description", "default", "examples", "$comment"}
_DEEPEST = 30
_MOST_SCHEMA = 100_000  # bytes of a file: it goes with each request
_FENCED = re.compile(r"\A```\w*\s*(.*?)\s*```\Z", re.DOTALL)


class NotAsAsked(ValueError):
    """An answer is not JSON, or not as the schema says; its text says where."""


def read_schema(path: Path) -> dict[str, Any]:
    """Read a file with a schema of an object.

    Raises:
        VljEdgeError: it cannot be read, is no JSON, or uses what is not checked here.
    """
    check_regular_file(path, "name a file with a JSON schema", _MOST_SCHEMA)
    try:
        schema = json.loads(path.read_text(encoding="utf-8-sig"), parse_constant=_refuse)
    except OSError as error:
        raise VljEdgeError(f"{path} cannot be read ({error.strerror}): check the path") from error
    except (ValueError, RecursionError) as error:
        raise VljEdgeError(f"{path} is not JSON ({error}): correct it") from error
    try:
        check_schema(schema)
    except ValueError as error:
        raise VljEdgeError(f"{path}: {error}") from None
    return dict(schema)


def check_schema(schema: Any) -> None:
    """Raises ValueError, of one line: it is no schema of an object, or uses what is not checked here."""
    if not isinstance(schema, dict) or schema.get("type") != "object":
        raise ValueError('the schema is not that of an object: begin it with {"type": "object", "properties": ...}')
    _check_schema(schema, "the schema", 0)


def parse_answer(text: str, schema: dict[str, Any]) -> Any:
    """Return an answer in JSON, which may stand in a code block, as plain types.

    Raises:
        NotAsAsked: it is no JSON, or not as the schema says.
    """
    fenced = _FENCED.match(text)
    try:
        value = json.loads(fenced[1] if fenced else text, parse_constant=_refuse, parse_float=_finite)
        _check_depth(value, _DEEPEST)
    except (ValueError, RecursionError):
        raise NotAsAsked("the answer is not JSON, has too large a number, or is nested too deep") from None
    _check(value, schema, "the answer")
    return value


def _check(value: Any, schema: dict[str, Any], where: str) -> None:
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(_TYPES[kind](value) for kind in kinds):
        raise NotAsAsked(f"{where} is no {' or '.join(kinds)}")
    if "enum" in schema and not any(_same(value, each) for each in schema["enum"]):
        raise NotAsAsked(f"{where} is none of those that are listed")
    if "const" in schema and not _same(value, schema["const"]):
        raise NotAsAsked(f"{where} is not {json.dumps(schema['const'])}")
    for name, (types, holds) in _BOUNDS.items():
        is_bound = name in schema and isinstance(value, types) and not isinstance(value, bool)
        if is_bound and not holds(value, schema[name]):
            raise NotAsAsked(f"{where} is not within {name} {schema[name]}")
    if isinstance(value, list) and "items" in schema:
        for number, each in enumerate(value):
            _check(each, schema["items"], f"{where}[{number}]")
    if isinstance(value, dict):
        _check_object(value, schema, where)


def _check_object(value: dict[str, Any], schema: dict[str, Any], where: str) -> None:
    properties = schema.get("properties", {})
    for name in schema.get("required", []):
        if name not in value:
            raise NotAsAsked(f"{where} has no '{name}'")
    for name, each in value.items():
        if name in properties:
            _check(each, properties[name], f"{where}.{name[:40]}")
        elif schema.get("additionalProperties", True) is False:
            raise NotAsAsked(f"{where} has '{name[:40]}', which the schema has not")


def _check_schema(schema: Any, where: str, depth: int) -> None:
    if not isinstance(schema, dict):
        raise ValueError(f'{where} is no object of JSON: write {{"type": ...}}')
    if depth > _DEEPEST:
        raise ValueError(f"{where} is nested more than {_DEEPEST} deep: make it simpler")
    for name, value in schema.items():
        if name not in _CHECKED | _NOTES:
            raise ValueError(f"{where} has '{name[:40]}', which is not checked here: leave it out ({_listed()})")
        if not _is_usable(name, value):
            raise ValueError(f"{where} has a '{name}' that cannot be used: correct it")
    if "items" in schema:
        _check_schema(schema["items"], f"items of {where}", depth + 1)
    for name, each in schema.get("properties", {}).items():
        _check_schema(each, f"'{name[:40]}' of {where}", depth + 1)


def _is_usable(name: str, value: Any) -> bool:
    if name == "type":
        kinds = value if isinstance(value, list) and value else [value]
        return all(isinstance(kind, str) and kind in _TYPES for kind in kinds)
    if name in _BOUNDS:
        whole = _TYPES["integer"](value) and value >= 0
        return whole if name.endswith(("Length", "Items")) else _TYPES["number"](value)
    if name == "required":
        return isinstance(value, list) and all(isinstance(each, str) for each in value)
    wanted = {"properties": dict, "items": dict, "enum": list, "additionalProperties": bool}
    return name not in wanted or isinstance(value, wanted[name])


def _listed() -> str:
    return ", ".join(sorted(_CHECKED))


def _same(one: Any, other: Any) -> bool:
    """Return whether two values are the same JSON, in which true is not 1."""
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _finite(digits: str) -> float:
    number = float(digits)
    return number if math.isfinite(number) else _refuse(digits)


def _check_depth(value: Any, left: int) -> None:
    """Raises ValueError: lists and objects are nested deeper."""
    if isinstance(value, (list, dict)):
        if left == 0:
            raise ValueError
        for each in value.values() if isinstance(value, dict) else value:
            _check_depth(each, left - 1)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
