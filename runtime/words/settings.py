"""What is said about words from an endpoint in options and configuration files, and the Words that it makes."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from vlj_edge.errors import VljEdgeError, errors_at
from vlj_edge.regular_file import check_regular_file, with_home
from vlj_edge.text_list import is_file_name

from .endpoint import MOST_TOKENS, TIMEOUT, Endpoint, checked_key
from .json_schema import read_schema
from .prompt import check_prompt
from .words import FRAME_SIZE, FRAMES, LimitKeys, Words

KEY_VARIABLE = "VLJ_EDGE_WORDS_KEY"
_MOST_PROMPT = 100_000  # bytes of a file


@dataclass(frozen=True)
class WordsSettings:
    """The endpoint for the words of a source, what it is shown, and its limits. See Endpoint and Words.

    Attributes:
        schema: JSON, or None.
        key: is never shown.
        has_questions: of an alert, which some of the tokens of a day are left for.
        keys: by which the limits are changed.
    """

    url: str = field(repr=False)
    model: str | None = None
    prompt: str | None = None
    schema: str | None = None
    timeout: float = TIMEOUT
    most_tokens: int = MOST_TOKENS
    frames: int = FRAMES
    frame_size: int = FRAME_SIZE
    calls_per_hour: float | None = None
    tokens_per_day: int = 0
    key: str | None = field(default=None, repr=False)
    has_questions: bool = False
    keys: LimitKeys = field(default_factory=LimitKeys)

    @property
    def endpoint(self) -> Endpoint:
        """The endpoint, which sources with the same one share."""
        asked = (self.url, self.model, self.key, self.prompt, self.timeout, self.most_tokens, self.schema)
        return _endpoint(*asked)

    def words(self, camera: str = "") -> Words:
        """Return the words of one source.

        Raises:
            VljEdgeError: a setting cannot be used.
        """
        words = Words(self.endpoint, *self._limits, camera)
        words.has_questions, words.keys = self.has_questions, self.keys
        return words

    def apply_to(self, words: Words) -> None:
        """Make words of a source as these settings say. What its budget has saved up stays."""
        words.configure(self.endpoint, *self._limits)
        words.has_questions, words.keys = self.has_questions, self.keys

    @property
    def _limits(self) -> tuple[int, int, float | None, int]:
        return self.frames, self.frame_size, self.calls_per_hour, self.tokens_per_day


@lru_cache(maxsize=64)
def _endpoint(
    url: str,
    model: str | None,
    key: str | None,
    prompt: str | None,
    timeout: float,
    most_tokens: int,
    schema: str | None,
) -> Endpoint:
    parsed = None if schema is None else json.loads(schema)
    return Endpoint(url, model, key, prompt, timeout, most_tokens, parsed)


def read_prompt(text: str) -> str:
    """Return a prompt: the content of the file that the text names, or the text.

    It names a file as @FILE, as one that is there, or in a way that only files are named: see is_file_name(). What
    begins with a space never does.

    Raises:
        VljEdgeError: it is empty, has a field that there is none of, or the file cannot be read.
    """
    file = _file_named(text)
    if file is None:
        check_prompt(text)
        return text.strip()
    meant = "name a file with a prompt, or put a space before the prompt if this is the text of it"
    if not file.exists():
        raise VljEdgeError(f"{file} does not exist: {meant}")
    check_regular_file(file, meant, _MOST_PROMPT)
    try:
        found = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise VljEdgeError(f"{file} cannot be read ({error.strerror}): check the file of the prompt") from None
    except ValueError:
        raise VljEdgeError(f"{file} is not text in UTF-8: {meant}") from None
    if re.search(r"[\0-\x08\x0e-\x1f]", found):
        raise VljEdgeError(f"{file} is no text: {meant}")
    with errors_at(str(file)):
        check_prompt(found)
    return found.strip()


def _file_named(text: str) -> Path | None:
    """Return the file that a prompt names; None: it is the text itself."""
    name = text.removeprefix("@")
    if not name.strip() or text[0].isspace():
        return None
    try:
        path = with_home(name)
        named = name != text or is_file_name(text) or path.exists()
    except (OSError, ValueError):  # longer than any name, or with a zero byte in it
        return None
    return path if named else None


def read_key(file: str | Path | None) -> str | None:
    """Return the key in a file; without one, that of the environment, or None.

    Raises:
        VljEdgeError: it cannot be read or sent. The message does not contain it.
    """
    if file is None:
        return checked_key(os.environ.get(KEY_VARIABLE))
    check_regular_file(file, "name a file with the key in it", _MOST_PROMPT)
    try:
        key = checked_key(Path(file).read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError:
        raise VljEdgeError(f"{file} holds no key: it is not text; name a file with the key in it") from None
    except OSError as error:
        raise VljEdgeError(f"{file} cannot be read ({error.strerror}): check the path and its permissions") from None
    if key is None:
        raise VljEdgeError(f"{file} is empty: write the key of the words' endpoint into it")
    return key


def read_schema_text(file: str | Path) -> str:
    """Return the JSON schema in a file. Raises VljEdgeError as read_schema()."""
    return json.dumps(read_schema(Path(file)), ensure_ascii=False)
