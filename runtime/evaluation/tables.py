"""Tables of clips: CSV, TSV and JSONL with video, start, end, text, question, choices, answer.

Only `video` is in every row, with a text, or with a question, its choices and its answer. Paths are relative to the
table's folder, times are seconds or as for --start, 1:02. The columns of a CSV file may also be separated by semicolons
or tabs, as spreadsheets write them; with semicolons, times may have a decimal comma. Choices are separated by | or,
where there is none, by commas.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

from vlj_edge.errors import VljEdgeError
from vlj_edge.near_names import in_place_of, near_names
from vlj_edge.schema import Range, parse
from vlj_edge.tables import TableError, csv_lines, table_text
from vlj_edge.time_text import HOW, seconds_of

TABLES = (".csv", ".tsv", ".jsonl")
REMEDY = "give a UTF-8 CSV, TSV or JSONL file with a column video (docs/evaluation.md)"


@dataclass(frozen=True)
class TaskQuestion:
    """A question with its choices and which of them is right."""

    question: str
    choices: tuple[str, ...]
    answer: int


@dataclass(frozen=True)
class Row:
    """One line: a part of a video with a text that describes it, a question about it, or both."""

    video: Path
    start: float = 0.0
    end: float | None = None
    text: str | None = None
    question: TaskQuestion | None = None


@dataclass(frozen=True)
class _Fields:
    video: str
    start: Annotated[float, Range(at_least=0)] = 0.0
    end: Annotated[float, Range(above=0)] | None = None
    text: str | None = None
    question: str | None = None
    choices: tuple[str, ...] = ()
    answer: str | None = None


_TIMES = ("start", "end")
_KNOWN = tuple(each.name for each in fields(_Fields))


def read_table(path: Path) -> tuple[list[Row], tuple[str, ...]]:
    """Return the rows of a table and the names of its columns that mean nothing here.

    Raises:
        VljEdgeError: it cannot be read or holds no row, or a row is wrong; with its line.
    """
    text = table_text(path, REMEDY)
    rows, ignored = [], dict[str, None]()
    line, values = 1, None
    try:
        for line, values in _json_lines(text) if path.suffix.lower() == ".jsonl" else _csv_lines(path, text):
            if isinstance(values, dict):
                values = values | {name: _time(line, name, values[name]) for name in _TIMES if name in values}
                ignored |= dict.fromkeys(str(name) for name in values if name not in _KNOWN)
            rows.append(_row(path.parent, parse(_Fields, values, ignore_unknown=True)))
    except (ValueError, RecursionError) as error:
        wrong = error.line if isinstance(error, TableError) else line
        there = {"video", *values} if isinstance(values, dict) else _KNOWN  # of a missing video, the error says it
        near = near_names([name for name in _KNOWN if name not in there], ignored)
        known = f"; {', '.join(ignored)[:80]} mean nothing here, {', '.join(_KNOWN)} do" if ignored else ""
        known = f"; {in_place_of(near)}" if near else known
        raise VljEdgeError(f"{path}, line {wrong}: {error}{known}: correct it (docs/evaluation.md)") from error
    if not rows:
        raise VljEdgeError(f"{path} holds no clips: {REMEDY}")
    return rows, tuple(ignored)


def _json_lines(text: str) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError) as error:
                raise TableError(number, f"it is no JSON ({error})") from error


def _csv_lines(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    separator = "\t" if path.suffix.lower() == ".tsv" else None
    for number, cells in csv_lines(text, ("video",), _KNOWN, _TIMES, separator):
        yield number, {name: _value(name, cell) for name, cell in cells.items()}


def _value(name: str, cell: str) -> Any:
    return cell.split("|" if "|" in cell else ",") if name == "choices" else cell


def _time(line: int, name: str, value: Any) -> Any:
    """Return seconds for a time that is written as text."""
    if not isinstance(value, str):
        return value
    with suppress(ValueError):
        return float(value)
    seconds = seconds_of(value)
    if seconds is None:
        raise TableError(line, f"{name} is '{value[:40]}', no time: {HOW}")
    return seconds


def _row(folder: Path, given: _Fields) -> Row:
    """Check the fields against each other. Raises ValueError: they do not fit."""
    if not given.video.strip() or "\0" in given.video:
        raise ValueError("video names no file")
    if given.end is not None and given.end <= given.start:
        raise ValueError(f"end is {given.end:g} s, not after start, {given.start:g} s")
    text, question = _words(given.text), _question(given)
    if text is None and question is None:
        raise ValueError("there is neither a text nor a question with choices and an answer")
    return Row((folder / given.video.strip()).absolute(), given.start, given.end, text, question)


def _question(given: _Fields) -> TaskQuestion | None:
    question, answer = _words(given.question), _words(given.answer)
    choices = tuple(choice for choice in map(_words, given.choices) if choice is not None)
    if question is None and answer is None and not choices:
        return None
    if question is None:
        raise ValueError("there are choices or an answer, but no question")
    if len(choices) < 2 or len(set(choices)) < len(choices):
        raise ValueError(f"the question '{question[:60]}' needs two choices or more, each once")
    if answer not in choices:
        raise ValueError(f"the answer '{(answer or '')[:60]}' is none of the choices: {', '.join(choices)[:120]}")
    return TaskQuestion(question, choices, choices.index(answer))


def _words(text: str | None) -> str | None:
    """Return a text with single spaces, None if it is empty."""
    return " ".join((text or "").split()) or None
