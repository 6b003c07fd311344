"""Finds for each character a font of this machine that contains it."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from itertools import groupby
from typing import Any

from PIL import ImageFont

# In order of preference; other fonts are searched for characters that none of these has.
PREFERRED = ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "LiberationSans-Regular.ttf", "FreeSans.ttf", "Arial.ttf")
FOLDERS = ("/usr/share/fonts", "/usr/local/share/fonts", "~/.local/share/fonts", "~/.fonts")
_MOST_FONTS = 500  # opened at most
_NO_LETTER = "\ufffe"  # a code point that no font has
_REPLACEMENT = "\ufffd"
_DRAWS_NOTHING = ("Mn", "Me", "Cf", "Cc")  # categories of marks and control characters
_ASCII_LETTERS = str.maketrans(
    {"ß": "ss", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "đ": "d", "Đ": "D"}
    | {"\u2013": "-", "\u2014": "-", "\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u0131": "i"}
    | {"þ": "th", "\u2026": "..."}
)


class Fonts:
    """The fonts at one size, in pixels."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._files = font_files()
        self._loaded: list[tuple[Any, bytes]] = []  # each with its glyph for missing characters
        self._with: dict[str, Any] = {}

    def runs(self, text: str) -> list[tuple[Any, str]]:
        """Split a line into parts, each with its font. Characters that no font has are transliterated, or become a
        question mark."""
        fonts = [(self._font(char), char) for char in self._drawable(text)]
        for at, (_, char) in enumerate(fonts):  # a mark or a space stays with the character before
            if at and (char.isspace() or unicodedata.category(char) in _DRAWS_NOTHING):
                fonts[at] = (fonts[at - 1][0], char)
        return [(font, "".join(char for _, char in run)) for font, run in groupby(fonts, key=lambda pair: pair[0])]

    def length(self, text: str) -> float:
        """Return the width of a line, pixels."""
        return sum(float(font.getlength(part)) for font, part in self.runs(text))

    def has(self, char: str) -> bool:
        """Return whether a font has a character, or the character needs no font."""
        return char.isspace() or unicodedata.category(char) in _DRAWS_NOTHING or self._find(char) is not None

    def _drawable(self, text: str) -> str:
        text = unicodedata.normalize("NFC", text)
        return "".join(char if self.has(char) else self._instead(char) for char in text)

    def _instead(self, char: str) -> str:
        ascii_letters = to_ascii(char)
        if "?" not in ascii_letters:
            return ascii_letters
        return _REPLACEMENT if self.has(_REPLACEMENT) else "?"

    def _font(self, char: str) -> Any:
        return self._find(char) or next(self._fonts())[0]

    def _find(self, char: str) -> Any:
        """Return the first font that has a character; None if none has."""
        if char not in self._with:
            self._with[char] = next((font for font, blank in self._fonts() if _has(font, blank, char)), None)
        return self._with[char]

    def _fonts(self) -> Iterator[tuple[Any, bytes]]:
        """Yield the fonts; each is loaded when the previous ones lack a character."""
        yield from self._loaded
        for name in self._files:
            with suppress(OSError, ImportError):  # no font, a bitmap font of another size, or a Pillow without FreeType
                font = ImageFont.truetype(name, self._size)
                self._loaded.append((font, _drawn(font, _NO_LETTER)))
                yield self._loaded[-1]
        if not self._loaded:
            self._loaded.append(_own_font(self._size))
            yield self._loaded[-1]


@lru_cache(maxsize=4)
def fonts(size: int) -> Fonts:
    """Return the fonts at a size, pixels."""
    return Fonts(size)


def missing_letters(text: str) -> str:
    """Return the characters of a text that no font of this machine has, each once."""
    return "".join(dict.fromkeys(char for char in text if not fonts(20).has(char)))


def font_files() -> Iterator[str]:
    """Yield names and paths of fonts, the preferred ones first."""
    yield from PREFERRED
    found = [
        os.path.join(folder, name)
        for root in FOLDERS
        for folder, _, names in os.walk(os.path.expanduser(root))
        for name in names
        if name.lower().endswith((".ttf", ".otf", ".ttc"))
    ]
    yield from sorted(found, key=lambda path: ("sans" not in path.lower(), "regular" not in path.lower(), path))[
        :_MOST_FONTS
    ]


def to_ascii(text: str) -> str:
    """Transliterate to ASCII; other characters become question marks."""
    bare = unicodedata.normalize("NFKD", text.translate(_ASCII_LETTERS))
    return "".join(c for c in bare if not unicodedata.combining(c)).encode("ascii", "replace").decode()


def _own_font(size: int) -> tuple[Any, bytes]:
    """Return Pillow's own font, which has ASCII only."""
    try:
        font = ImageFont.load_default(size)
    except (TypeError, ImportError):  # Pillow below 10.1, or without FreeType: one size
        font = ImageFont.load_default()
    return font, _drawn(font, _NO_LETTER)


def _has(font: Any, blank: bytes, char: str) -> bool:
    drawn = _drawn(font, char)
    return drawn != blank and any(drawn)


def _drawn(font: Any, char: str) -> bytes:
    try:
        return bytes(font.getmask(char))
    except (UnicodeError, OSError, ValueError):  # the oldest fonts have Latin-1 only
        return b""
