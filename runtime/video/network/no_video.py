"""What a server sent in place of a video, where that is known from its first bytes: a web page, an error in words."""

from __future__ import annotations

import re

from vlj_edge.errors import without_secrets

_SHOWN = 60  # letters of a text
_LEAST = 8  # bytes: a video's first ones may be letters
_VIDEO_IN_LETTERS = ("YUV4MPEG2",)


class NoVideoError(OSError):
    """A server answered, and what it sent is no video. The text is for users."""


def known_problem(head: bytes) -> str | None:
    """Return what the first bytes of a response are, for users; None if they may be a video."""
    if not head:
        return "it answers with nothing"
    text = _text(head)
    if text is None or len(head) < _LEAST or text.startswith(_VIDEO_IN_LETTERS):
        return None
    start = text.lower()
    if start.startswith(("<!doctype html", "<html")) or "<html" in start[:400] or start.startswith("<!doctype"):
        return "it is a web page, no video"
    if "<mpd" in start[:1000]:
        return "it is a DASH manifest, which is not read: give its HLS address (.m3u8), or that of a video"
    shown = " ".join(without_secrets(re.sub(r"\?\S*", "?***", text[: 4 * _SHOWN])).split())
    return f"it answers with words, no video: '{shown[:_SHOWN]}{'...' if len(shown) > _SHOWN else ''}'"


def _text(head: bytes) -> str | None:
    """Return the bytes as text without leading white space; None if they hold more than letters."""
    try:
        text = head.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:  # the last letter may have been cut
            return None
        text = head[: error.start].decode("utf-8-sig")
    text = text.lstrip()
    return text if all(letter.isprintable() or letter in "\r\n\t" for letter in text) else None
