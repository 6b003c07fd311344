"""The options of narrate and serve for words from an endpoint: a vision-language model on a server."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from .budget_options import LIMIT
from .options import file_type
from .part_options import Seconds

if TYPE_CHECKING:
    from vlj_edge.runtime.words.settings import WordsSettings

_OPTIONS = (
    click.option(
        "--words",
        metavar="URL",
        help="Let a model at this OpenAI-compatible address say what happens, such as http://localhost:11434/v1, each"
        " time that the meaning changes.",
    ),
    click.option("--words-model", metavar="NAME", help="The model's name there, such as qwen3-vl:4b."),
    click.option(
        "--prompt",
        metavar="TEXT|@FILE",
        help="What it is told, or a file of that; {camera} and {last} in it are replaced. The name of a file that is"
        " there needs no @; with a space before it, it is a text.",
    ),
    click.option("--frames", type=click.IntRange(1, 64), help="Pictures that it is shown, at most.  [default: 4]"),
    click.option(
        "--frame-size", type=click.IntRange(16, 4096), help="Pixels of their longer side, at most.  [default: 512]"
    ),
    click.option(
        "--calls-per-hour",
        type=LIMIT,
        help="Ask it at most so often in the long run, about the largest changes of each source; 0: no limit."
        "  [default: 30 of a camera or a pipe, which may never end; no limit of a recording]",
    ),
    click.option(
        "--words-tokens-per-day",
        type=click.IntRange(0, 1 << 40),
        help="Tokens of any 24 hours beyond which it is not asked; 0: no limit.  [default: 0]",
    ),
    click.option("--words-timeout", type=Seconds(), help="Longest wait for an answer, with retries.  [default: 20s]"),
    click.option(
        "--words-max-tokens", type=click.IntRange(1, 100_000), help="Tokens of an answer, at most.  [default: 200]"
    ),
    click.option("--words-key-file", type=file_type, help="Read its key from this file; or set VLJ_EDGE_WORDS_KEY."),
    click.option(
        "--words-schema", type=file_type, help="Ask for JSON as this JSON schema says, check it, and pass it on."
    ),
)
FIELDS = {  # of WordsSettings, by the option that sets them
    "words": "url",
    "words_model": "model",
    "prompt": "prompt",
    "frames": "frames",
    "frame_size": "frame_size",
    "calls_per_hour": "calls_per_hour",
    "words_tokens_per_day": "tokens_per_day",
    "words_timeout": "timeout",
    "words_max_tokens": "most_tokens",
    "words_key_file": "key",
    "words_schema": "schema",
}


def words_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options to a command, which gets those that were given as one `words`, by name."""

    @wraps(command)
    def with_words(*args: Any, **kwargs: Any) -> Any:
        given = {name: kwargs.pop(name) for name in FIELDS}
        return command(*args, words={name: value for name, value in given.items() if value is not None}, **kwargs)

    wrapped: Callable[..., Any] = with_words
    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped


def option_of(name: str) -> str:
    """Return the option of a name: "--words-model"."""
    return f"--{name.replace('_', '-')}"


def words_settings(
    given: dict[str, Any], place: Callable[[str], str] = option_of, key_of: Callable[[str], str] = option_of
) -> WordsSettings | None:
    """Return what the options say, those of the command line or of a file; None without --words.

    Args:
        given: values by name; names of other options are ignored.
        place: returns where the value of a name stands, for errors.
        key_of: returns how the value of a name is changed.

    Raises:
        VljEdgeError: one of them cannot be used; with its place.
    """
    from vlj_edge.runtime.words.settings import WordsSettings, read_key, read_prompt, read_schema_text
    from vlj_edge.runtime.words.words import LimitKeys

    from ..errors import errors_at

    asked = {name: given[name] for name in FIELDS if name in given}
    if "words" not in asked:
        if asked:
            raise click.UsageError(f"{place(next(iter(asked)))} is for --words: give the address, or leave it out")
        return None
    read: dict[str, Callable[[Any], Any]] = {
        "prompt": read_prompt,
        "words_key_file": read_key,
        "words_schema": read_schema_text,
    }
    keys = LimitKeys(*map(key_of, ("calls_per_hour", "words_tokens_per_day")))
    settings = WordsSettings(asked["words"], keys=keys, key=None if "words_key_file" in asked else read_key(None))
    for name, value in asked.items():
        with errors_at(place(name)):
            settings = replace(settings, **{FIELDS[name]: read.get(name, _as_it_is)(value)})
            settings.words()  # refuses what cannot be used
    return settings


def _as_it_is(value: Any) -> Any:
    return value
