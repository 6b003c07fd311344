"""Check data from outside (JSON, TOML, a checkpoint's metadata) against a dataclass: the one validator of this project.

    >>> @dataclass(frozen=True)
    ... class Camera:
    ...     uri: str
    ...     port: Annotated[int, Range(1, 65535)] = 554
    ...     labels: tuple[str, ...] = ()
    ...     mode: Literal["live", "file"] = "live"
    >>> parse(Camera, {"uri": "rtsp://door", "port": 80})
    Camera(uri='rtsp://door', port=80, labels=(), mode='live')
    >>> parse(Camera, {"uri": "rtsp://door", "port": "80"})
    Traceback (most recent call last):
    vlj_edge.schema.SchemaError: port is '80', not a whole number
    >>> parse(dict[str, Camera], {"door": {"url": "rtsp://door"}})
    Traceback (most recent call last):
    vlj_edge.schema.SchemaError: door.url is unknown: did you mean uri?

Nothing is converted, except a whole number where a float is declared, a list where a tuple is, and a text where
Written reads one. Fields with a default
may be absent. To report a line of the source file, use `SchemaError.path`. Checks that concern several fields at once
stay with the caller.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from math import isfinite
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from .near_names import in_place_of, near_names

T = TypeVar("T")
FieldPath = tuple[str | int, ...]  # ("engines", "decoder", "inputs", 0, "shape")

_IN_WORDS = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}


@dataclass(frozen=True)
class Range:
    """The numbers that an annotated field may hold: `at_least` <= value <= `at_most`, and value > `above`."""

    at_least: float | None = None
    at_most: float | None = None
    above: float | None = None

    def __contains__(self, value: float) -> bool:
        return (
            (self.at_least is None or value >= self.at_least)
            and (self.at_most is None or value <= self.at_most)
            and (self.above is None or value > self.above)
        )

    def __str__(self) -> str:
        bounds = {"at least": self.at_least, "above": self.above, "at most": self.at_most}
        return " and ".join(f"{name} {bound:g}" for name, bound in bounds.items() if bound is not None)


@dataclass(frozen=True)
class Written:
    """How an annotated float may be written as a text, too: "20s" for 20.0.

    Attributes:
        read: returns the number that a text means, or None.
        problem: of a value that is neither a number nor such a text: "no time: write 20s".
    """

    read: Callable[[str], float | None]
    problem: str


_LARGEST = 2**63 - 1  # math takes no larger ones everywhere

Count = Annotated[int, Range(at_least=1)]
Positive = Annotated[float, Range(above=0)]
Port = Annotated[int, Range(0, 65535)]
Bytes = Annotated[int, Range(1, 2**53)]  # sizes of files; JSON and TOML hold larger numbers than any disk


class SchemaError(ValueError):
    """The data does not fit its dataclass. The text is one phrase: "engines.decoder.opset is 'x', not a whole number".

    Attributes:
        path: keys and list indexes that lead to the faulty value; an unknown field is its last key, a missing one is
            not in it.
        problem: the phrase without the path.
    """

    def __init__(self, path: FieldPath, problem: str) -> None:
        self.path, self.problem = path, problem
        super().__init__(f"{steps_of(path) or 'it'} {problem}")


def steps_of(path: FieldPath) -> str:
    """Return a path as it is written: "engines.decoder.inputs[0].shape"."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")


def parse(kind: type[T], raw: object, *, ignore_unknown: bool = False) -> T:
    """Return `raw` as `kind`, checked all the way down.

    Args:
        kind: a dataclass, or dict[str, X] or tuple[X, ...] of one. Its fields are bool, int, float (finite), str, Any,
            Literal, X | None, tuple, dict[str, X], other dataclasses, or Annotated[X, Range(...)] of these.
        raw: what json, tomllib and the like return.
        ignore_unknown: skip fields that the dataclass does not have, for files that hold much besides (config.json of a
            checkpoint). By default they are errors, so that typing errors are found.

    Raises:
        SchemaError: a field is missing, unknown, of another type, or out of its range.
    """
    value: T = _parse(kind, raw, (), ignore_unknown)
    return value


def unknown_among(name: str, known: Sequence[str]) -> str:
    """Return the problem of an unknown name: what was probably meant, or all that are known."""
    import difflib

    near = difflib.get_close_matches(name.casefold(), known, 1)
    return f"is unknown: did you mean {near[0]}?" if near else f"is unknown; known are {', '.join(known)}"


def shown(raw: object) -> str:
    """Return a value for an error, shortened."""
    try:
        return reprlib.repr(raw)
    except ValueError:  # Python writes no int of more than 4300 digits, which 0xfff... in TOML may have
        return "a number of thousands of digits"


def _parse(kind: Any, raw: Any, path: FieldPath, ignore_unknown: bool) -> Any:
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any:
        return raw
    if type(raw) is int and abs(raw) > _LARGEST:
        raise SchemaError(path, "is a whole number of more than 64 bits")
    if origin is Annotated:
        for written in inner[1:]:
            raw = _read(written, raw, path) if isinstance(written, Written) else raw
        value = _parse(inner[0], raw, path, ignore_unknown)
        for limits in inner[1:]:
            if isinstance(limits, Range) and value not in limits:
                raise SchemaError(path, f"is {value}, not {limits}")
        return value
    if origin in (Union, UnionType):  # only `X | None` is supported
        (other,) = (each for each in inner if each is not NoneType)
        return None if raw is None else _parse(other, raw, path, ignore_unknown)
    if origin is Literal:
        if not any(raw == each and type(raw) is type(each) for each in inner):
            raise SchemaError(path, f"is {shown(raw)}, not {' or '.join(map(repr, inner))}")
        return raw
    if origin is tuple:
        return _parse_list(inner, raw, path, ignore_unknown)
    if origin is dict or is_dataclass(kind):
        if not isinstance(raw, dict):
            raise SchemaError(path, f"is {shown(raw)}, not a table of fields")
        if origin is dict:
            return {name: _parse(inner[1], value, (*path, name), ignore_unknown) for name, value in raw.items()}
        return _parse_dataclass(kind, raw, path, ignore_unknown)
    if kind is float and type(raw) is int and abs(raw) < 2**53:
        return float(raw)
    if type(raw) is not kind or (kind is float and not isfinite(raw)):
        raise SchemaError(path, f"is {shown(raw)}, not {_IN_WORDS[kind]}")
    return raw


def _read(written: Written, raw: Any, path: FieldPath) -> Any:
    found = written.read(raw) if isinstance(raw, str) else raw
    if type(found) not in (int, float):
        raise SchemaError(path, f"is {shown(raw)}, {written.problem}")
    return found


def _parse_list(kinds: tuple[Any, ...], raw: Any, path: FieldPath, ignore_unknown: bool) -> tuple[Any, ...]:
    any_length = kinds[-1] is ...
    if not isinstance(raw, (list, tuple)) or not (any_length or len(raw) == len(kinds)):
        raise SchemaError(path, f"is {shown(raw)}, not a list" + ("" if any_length else f" of {len(kinds)}"))
    each = (kinds[0],) * len(raw) if any_length else kinds
    return tuple(
        _parse(kind, value, (*path, index), ignore_unknown)
        for index, (kind, value) in enumerate(zip(each, raw, strict=True))
    )


def _parse_dataclass(kind: Any, raw: dict[str, Any], path: FieldPath, ignore_unknown: bool) -> Any:
    types = get_type_hints(kind, include_extras=True)
    unknown = [name for name in raw if name not in types]
    if unknown and not ignore_unknown:
        raise SchemaError((*path, unknown[0]), unknown_among(unknown[0], list(types)))
    required = [each.name for each in fields(kind) if each.default is MISSING and each.default_factory is MISSING]
    if missing := [name for name in required if name not in raw]:
        near = near_names(missing, unknown)
        raise SchemaError(path, f"lacks {', '.join(missing)}" + (f": {in_place_of(near)}" if near else ""))
    return kind(
        **{name: _parse(types[name], raw[name], (*path, name), ignore_unknown) for name in types if name in raw}
    )
