"""Tables that users write: CSV files, with commas, semicolons or tabs between columns, as spreadsheets save them."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from .errors import VljEdgeError
from .near_names import in_place_of, near_names
from .regular_file import check_regular_file
from .text_list import is_utf16

_LARGEST = 1_000_000_000  # bytes: a video named by mistake must not be read into memory


class TableError(ValueError):
    """What is wrong with a line of a table.

    Attributes:
        line: its number, from 1.
        named: the problem, with it.
    """

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(problem)
        self.line, self.named = line, f"line {line}: {problem}"


def table_text(path: Path, remedy: str, most_bytes: int = _LARGEST) -> str:
    """Return the text of a file, its lines ended by \\n.

    Args:
        remedy: what to do, for errors.

    Raises:
        VljEdgeError: it cannot be read, is larger, or no UTF-8.
    """
    check_regular_file(path, remedy, most_bytes)
    try:
        raw = path.read_bytes()
        if is_utf16(raw):
            raise VljEdgeError(f"{path} is in UTF-16: save it as UTF-8")
        return raw.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except OSError as error:
        raise VljEdgeError(f"{path} cannot be read ({error.strerror or error}): {remedy}") from error
    except ValueError as error:  # not UTF-8, or a path with a null byte
        raise VljEdgeError(f"{path} cannot be read as UTF-8: {remedy}") from error


def csv_lines(
    text: str, needed: Sequence[str], known: Sequence[str], times: Iterable[str] = (), separator: str | None = None
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the rows of a table with their line numbers: the cells that are filled, by the column's name.

    Args:
        needed: columns that must be there, whose names are small letters.
        known: these and others that have a meaning.
        times: columns of numbers, which have a decimal comma where semicolons separate.
        separator: of columns; None: found in the first line.

    Raises:
        TableError: a needed column is missing, one is there twice, or a line has more cells than names.
    """
    separator = separator or _separator(text, needed)
    reader = csv.reader(text.splitlines(keepends=True), delimiter=separator)
    names: list[str] | None = None
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if names is None:
                names = _names(reader.line_num, cells, needed, known)
                continue
            if len(cells) > len(names):
                raise TableError(reader.line_num, f"it has {len(cells)} cells under {len(names)} names")
            filled = {name: cell for name, cell in zip(names, cells, strict=False) if cell.strip()}
            if separator == ";":
                filled |= {name: filled[name].replace(",", ".") for name in times if name in filled}
            yield reader.line_num, filled
    except csv.Error as error:
        raise TableError(reader.line_num, str(error)) from error


def columns(text: str, wanted: Sequence[str]) -> list[str]:
    """Return the names of a table's columns, in small letters, where `wanted` are looked for."""
    header = _header(text)
    return [name.strip(' "').lower() for name in header.split(_separator(text, wanted))]


def _names(line: int, cells: list[str], needed: Sequence[str], known: Sequence[str]) -> list[str]:
    names = [cell.strip().lower() for cell in cells]
    if missing := [name for name in needed if name not in names]:
        near = near_names(missing, [name for name in names if name not in known])
        remedy = f": {in_place_of(near)}" if near else ""
        columns = "column" if len(missing) == 1 else "columns"
        raise TableError(line, f"it has no {columns} {', '.join(missing)} among {', '.join(names)[:80]}{remedy}")
    if twice := [name for name in known if names.count(name) > 1]:
        raise TableError(line, f"the column {twice[0]} is there twice")
    return names


def _separator(text: str, needed: Sequence[str]) -> str:
    """Return what separates the names of the columns, which are the first line: under which most needed ones are there,
    and then most names."""
    header = _header(text)

    def found(separator: str) -> tuple[int, int]:
        names = [name.strip(' "').lower() for name in header.split(separator)]
        return sum(name in names for name in needed), len(names)

    return max(",;\t", key=found)


def _header(text: str) -> str:
    return next((line for line in text.split("\n") if line.strip()), "")
