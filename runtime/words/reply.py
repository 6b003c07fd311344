"""What a chat endpoint answers: the text in a response, and the reason in an error, whoever wrote the server."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from .thoughts import without_thoughts

MOST_TEXT = 2000  # characters of an answer that are kept
_MOST_REASON = 200  # characters of a server's reason that are shown
_NO_TEXT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


class Unreadable(ValueError):
    """A response in which no answer can be found; its text says why."""


@dataclass(frozen=True)
class Reply:
    """An answer in words.

    Attributes:
        text: without what the model thought aloud, and without white space around it; may be empty.
        tokens: of the request and of the answer, as the server counted them; None if it did not.
        data: the same as plain JSON types, where an answer in JSON was asked for.
        cut_short: the model stopped because it reached the limit of tokens.
        whole: False if the text was longer than is kept.
    """

    text: str
    tokens: int | None = None
    data: Any = None
    cut_short: bool = False
    whole: bool = True


def read_reply(body: bytes, most: int = MOST_TEXT) -> Reply:
    """Return the answer in the body of a response, in the form of OpenAI's chat completions.

    Args:
        most: characters of the text that are kept; of a longer one a sentence or word is kept whole.

    Raises:
        Unreadable: there is none.
    """
    try:
        response = json.loads(body)
    except (ValueError, RecursionError):
        raise Unreadable("what it sent is not JSON") from None
    choices = response.get("choices") if isinstance(response, dict) else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise Unreadable(reason_in(body) or "its answer has no choices")
    message = choices[0].get("message")
    if not isinstance(message, dict):
        raise Unreadable("its answer has no message")
    text = clean(without_thoughts(_text_of(message.get("content")))).strip()
    if not text and isinstance(message.get("refusal"), str):
        raise Unreadable(f"the model refuses: {' '.join(message['refusal'].split())[:_MOST_REASON]}")
    kept = _shortened(text, most)
    return Reply(kept, _tokens(response), None, choices[0].get("finish_reason") == "length", len(kept) == len(text))


def clean(text: str) -> str:
    """Return a text without what no text has: control characters but for line breaks and tabs, half characters.

    >>> clean("a\x1b[2J cat\r\nsleeps")
    'a[2J cat\nsleeps'
    """
    return _NO_TEXT.sub("", text.replace("\r\n", "\n"))


def reason_in(body: bytes) -> str:
    """Return the reason that the body of an error gives, on one line; empty if it gives none.

    Servers write {"error": {"message": ...}}, {"error": ...}, {"detail": text or list}, plain text, or nothing.
    """
    text = body[:65_536].decode("utf-8", "replace").strip()
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = "" if text.startswith(("<", "{", "[")) else text  # a page, or the beginning of something
    return " ".join(_reason(found).split())[:_MOST_REASON]


def _reason(found: Any) -> str:
    if isinstance(found, str):
        return found
    if isinstance(found, list):
        return "; ".join(filter(None, (_reason(each) for each in found[:3])))
    if isinstance(found, dict):
        for name in ("error", "message", "msg", "detail"):
            if name in found and (reason := _reason(found[name])):
                return reason
    return ""


def _text_of(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):  # parts
        return "".join(_text_of(part.get("text")) for part in content if isinstance(part, dict))
    return ""


def _tokens(response: dict[str, Any]) -> int | None:
    usage = response.get("usage")
    if not isinstance(usage, dict):
        return None
    parts = [_count(usage.get(name)) for name in ("prompt_tokens", "completion_tokens")]
    counted = [count for count in parts if count is not None]
    total = _count(usage.get("total_tokens"))
    return total if total is not None else sum(counted) if counted else None


def _count(value: Any) -> int | None:
    is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 40
    return value if is_count else None


def _shortened(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    begun = text[:most]
    end = max(begun.rfind(mark) + 1 for mark in (". ", "! ", "? ", ".\n", "。"))
    if end < most // 2:
        end = begun.rfind(" ")
    return begun[: end if end > most // 2 else most].rstrip()
