"""What a model is told with the pictures, and the reply that means that there is nothing to tell."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vlj_edge.errors import WrongCall

NOTHING_NEW = "nothing new"

DEFAULT_PROMPT = (
    "These pictures were taken by a camera one after the other, within {seconds} seconds. Say in one short sentence, in"
    " the present tense, what happens in them: who or what does what. Do not mention pictures or the camera."
)
_LIKE = (  # answers that agree can be used again
    ' Of a moment that looked like this one, this was said: "{like}". If it is true of this one, too, answer with the'
    " same words."
)
_AGAIN = (
    ' The last thing that was said is: "{last}". If that is still all there is to say, answer only: '
    + NOTHING_NEW
    + "."
)
_DEFAULT_JSON_PROMPT = (
    "These pictures were taken by a camera one after the other, within {seconds} seconds. Describe what they show."
)
_NOTHING_NEW = re.compile(  # and how models put it in their own words
    rf"(?:there is )?{NOTHING_NEW}"
    r"(?: to (?:say|tell|report|add|see|describe|note)| (?:happens|happened|has happened|is happening|here|yet))?"
)
_NAME = r"(\s*[^\W\d][\w.-]*\s*)"
_FIELD = re.compile(rf"\{{\{{{_NAME}\}}\}}|\{{{_NAME}\}}")  # the first is a word in braces that is meant so
FIELDS = ("camera", "last", "nearest", "seconds", "like")


@dataclass(frozen=True)
class WordsContext:
    """What is known about a change that is to be put into words.

    Attributes:
        start, end: of the window that shows it, seconds from the start of the source.
        begins: when the change was first seen, seconds.
        times: of the pictures, in their order, seconds.
        camera: the name of the source; empty if it has none.
        last: the text that was said last; empty before the first.
        nearest: the text that the bundle has for it, a caption or label; empty without any.
        similarity: cosine of its embedding to that of the last text of the narration, -1..1; None for the first.
        like: an earlier answer about a moment that looked much like it, other than the last; empty without any.
    """

    start: float
    end: float
    begins: float
    times: Sequence[float] = ()
    camera: str = ""
    last: str = ""
    nearest: str = ""
    similarity: float | None = None
    like: str = ""


def prompt_for(prompt: str | None, context: WordsContext, schema: Any = None) -> str:
    """Return the text of a request.

    Args:
        prompt: None for a default one. {camera}, {last}, {nearest}, {seconds} and {like} in it are replaced; {{word}}
            becomes {word}.
        schema: of the JSON that is asked for; it is told in the text, too, since many servers ignore it elsewhere.
    """
    if prompt is None and schema is not None:
        prompt = _DEFAULT_JSON_PROMPT
    if prompt is None:
        prompt = DEFAULT_PROMPT + (_LIKE if context.like else "") + (_AGAIN if context.last else "")
    values = {
        "camera": context.camera,
        "last": context.last,
        "nearest": context.nearest,
        "like": context.like,
        "seconds": f"{max(context.end - context.start, 0.1):.2g}",
    }
    text = _FIELD.sub(lambda found: f"{{{found[1]}}}" if found[1] else values.get(found[2], found[0]), prompt)
    if schema is None:
        return text
    return f"{text}\nAnswer with JSON alone, of this schema: {json.dumps(schema, ensure_ascii=False)}"


def check_prompt(prompt: str) -> None:
    """Raises VljEdgeError: a prompt is empty, or has a field that there is none of."""
    if not prompt.strip():
        raise WrongCall("the prompt is empty: write what the model is to say, or leave it out for the default")
    if (strange := unknown_field(prompt, FIELDS)) is not None:
        known = ", ".join(f"{{{name}}}" for name in FIELDS)
        raise WrongCall(f"the prompt has {strange}, and there are {known}: write {{{strange}}} for a word in braces")


def unknown_field(text: str, known: Sequence[str]) -> str | None:
    """Return the first word in braces that is none of these, as it is written.

    >>> unknown_field("Is the {cam} of {camera} open?", ["camera"])
    '{cam}'
    """
    return next((found[0] for found in _FIELD.finditer(text) if found[2] and found[2] not in known), None)


def is_nothing_new(text: str) -> bool:
    """Return whether a model answered that there is nothing to tell.

    >>> is_nothing_new('"Nothing new."')
    True
    """
    return _NOTHING_NEW.fullmatch(" ".join(re.sub(r"[\W_]+", " ", text).split()).casefold()) is not None
