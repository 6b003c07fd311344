"""Lists of texts that users write, such as labels, choices and captions: a file with one a line, or commas between."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import VljEdgeError, WrongCall, WrongText
from .regular_file import MOST_TEXT, check_regular_file, with_home

EVERYDAY = Path(__file__).with_name("captions") / "everyday.txt"  # sentences for cameras in the real world
THINGS = EVERYDAY.with_name("things.txt")  # ImageNet's classes and their hypernyms in WordNet
Line = tuple[int, str]  # its number in the file, from 1, and its text
_LONGEST = 10_000  # letters of a text
_FILE_NAME = re.compile(
    r"\.(txt|text|csv|tsv|jsonl?|ya?ml|toml|npz|npy|lst|list|labels|names|dat|vlj|md|prompt|tmpl)\Z", re.IGNORECASE
)
_PATH = re.compile(r"[~.]{0,2}[/\\]|[A-Za-z]:[/\\]")
_DEEP_PATH = re.compile(r"(?:~|\.{1,2}|[A-Za-z]:)[/\\]|[/\\].*[/\\]")  # not a word of command, such as /no_think


def read_texts(given: str, what: str) -> list[str]:
    """Return the texts of a file, if `given` is the path of one, otherwise `given` itself, separated by commas.

    Args:
        what: one of them, for errors: "label".

    Raises:
        VljEdgeError: see read_lines(); a text is repeated; or `given` looks like a path, but nothing is there.
    """
    path = with_home(given)
    if _is_file(path):
        lines = read_lines(path, what)
        if twice := repeated(lines):
            (first, text), (second, _) = twice
            raise VljEdgeError(
                f"{path}, lines {first} and {second}: the {what} '{text}' is there twice: name each once"
            )
        return [text for _, text in lines]
    texts = comma_separated(given)
    for missing in _paths_among(given, texts):
        check_regular_file(with_home(missing), f"name a file with one {what} a line")
        raise VljEdgeError(
            f"{missing} does not exist: name a file with one {what} a line, or each {what} with commas between"
        )
    if not texts:
        raise WrongCall(f"there are no {what}s: name them with commas between, or a file with one a line")
    if twice := repeated(enumerate(texts, 1)):
        raise WrongCall(f"the {what} '{twice[1][1]}' is there twice: name each once")
    return texts


@contextmanager
def texts_of_file(given: str) -> Iterator[None]:
    """Name the file and the line of a text that the model does not take, where `given` to read_texts() is a file.

    Raises:
        VljEdgeError: in place of a WrongText: what a file holds is no part of the call.
    """
    try:
        yield
    except WrongText as error:
        path = with_home(given)
        lines = read_lines(path, "text") if _is_file(path) else []
        places = [f"{path}, line {number}" for number, text in lines if text == error.text]
        if not places:
            raise
        raise VljEdgeError(f"{places[0]}: {error}") from None


def read_lines(path: Path, what: str) -> list[Line]:
    """Return the texts of a file, one a line, with their line numbers.

    A byte-order mark, blank lines and lines that begin with # are left out, and white space is made single spaces.

    Raises:
        VljEdgeError: the file cannot be read, is no UTF-8 text or holds no text; with the line where there is one.
    """
    remedy = f"name a UTF-8 text file with one {what} a line"
    if path.suffix.lower() == ".npz":
        remedy += ", or a bank with --bank"
    check_regular_file(path, remedy, MOST_TEXT)
    try:
        raw = path.read_bytes()
        if is_utf16(raw):
            raise VljEdgeError(f"{path} is in UTF-16: save it as UTF-8")
        lines = raw.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    except OSError as error:
        raise VljEdgeError(f"{path} cannot be read ({error.strerror or error}): {remedy}") from None
    except UnicodeDecodeError as error:
        number = raw.count(b"\n", 0, error.start) + 1
        raise VljEdgeError(f"{path}, line {number}, cannot be read as UTF-8: {remedy}") from None
    found = []
    for number, line in enumerate(lines, 1):
        if "\0" in line:
            raise VljEdgeError(f"{path}, line {number}, holds a zero byte: {remedy}")
        if len(line) > _LONGEST:
            raise VljEdgeError(
                f"{path}, line {number}, has {len(line)} letters, and at most {_LONGEST} make a text: {remedy}"
            )
        text = " ".join(line.split())
        if text and not text.startswith("#"):
            found.append((number, text))
    if not found:
        raise VljEdgeError(f"{path} holds no {what}: write one a line")
    return found


def is_utf16(raw: bytes) -> bool:
    """Return whether the bytes of a text are UTF-16, as Windows calls Unicode: with its mark, or every other byte 0."""
    start = raw[:200]
    zeros = max(start[::2].count(0), start[1::2].count(0))
    return start[:2] in (b"\xff\xfe", b"\xfe\xff") or (len(start) > 3 and 3 * zeros > len(start))


def comma_separated(given: str) -> list[str]:
    """Return the texts between commas, without empty ones, with single spaces."""
    return [" ".join(each.split()) for each in given.split(",") if each.strip()]


def repeated(lines: Iterable[Line]) -> tuple[Line, Line] | None:
    """Return the first text that is there twice, as it is there both times, or None.

    Capitals and small letters count as the same, and so do runs of white space and a single space.
    """
    seen: dict[str, Line] = {}
    for number, text in lines:
        first = seen.setdefault(" ".join(text.split()).casefold(), (number, text))
        if first[0] != number:
            return first, (number, text)
    return None


def names_a_file(text: str) -> bool:
    """Return whether a text is named as a file of texts would be: "labels.txt", "./labels"."""
    return bool(_FILE_NAME.search(text) or _PATH.match(text))


def is_file_name(text: str) -> bool:
    """Return whether a text where a sentence is expected can only be meant as a file: one word that is named as a file
    would be, or a path with spaces that ends as a file does.

    >>> [is_file_name(each) for each in ("hall.txt", "./hall", "~/my texts/hall.txt")]
    [True, True, True]
    >>> [is_file_name(each) for each in ("yes/no", "Is that the cat.txt", "Describe.")]
    [False, False, False]
    """
    if not re.search(r"\s", text):
        return names_a_file(text)
    return bool(_DEEP_PATH.match(text) and _FILE_NAME.search(text))


def _paths_among(given: str, texts: list[str]) -> list[str]:
    """Return what must have been meant as a path. A word without commas may be one without a known ending, too."""
    given = given.strip()
    one_word = "," not in given and not re.search(r"\s", given)
    if one_word and (re.search(r"[/\\]|\.[a-z]\w{1,5}\Z", given) or names_a_file(given)):
        return [given]
    return [text for text in texts if names_a_file(text)]


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a list that is too long to be a file's name, or holds a zero byte
        return False
