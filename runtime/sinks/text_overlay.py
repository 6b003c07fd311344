"""Drawing a text into an image."""

from __future__ import annotations

import unicodedata
from contextlib import suppress
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

Pixels: TypeAlias = npt.NDArray[np.uint8]

MOST_LINES = 3
# Fonts of the system, in order of preference; Pillow's own has only ASCII.
FONTS = ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "LiberationSans-Regular.ttf", "FreeSans.ttf", "Arial.ttf")
_ASCII_LETTERS = str.maketrans(
    {"ß": "ss", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "đ": "d", "Đ": "D"}
    | {
        "\u2013": "-",
        "\u2014": "-",
        "\u2018": "'",
        "\u2019": "'",
        "\u201c": '"',
        "\u201d": '"',
        "\u0131": "i",
        "þ": "th",
    }
)
DARKNESS = 0.35  # of the bar: the factor by which it dims the image


def with_text(image: Pixels, text: str) -> Pixels:
    """Return a copy of an image, uint8 [height, width, 3], with white text on a dark bar at its bottom."""
    drawn = np.array(image)
    if text:
        mask = _text_mask(text, image.shape[1], image.shape[0])
        bar = drawn[-len(mask) :]
        bar[:] = np.rint(bar * (DARKNESS * (1 - mask)) + 255 * mask)
    return drawn


@lru_cache(maxsize=4)
def _text_mask(text: str, width: int, height: int) -> npt.NDArray[np.floating[Any]]:
    """Return the text as opacity 0..1, float32 [bar height, width, 1]. Cached: many frames show the same text."""
    size = max(10, height // 18)
    margin = max(2, size // 3)
    font, has_unicode = _font(size)
    text = text if has_unicode else _to_ascii(text)
    lines = _wrap(text, font, max(1, width - 2 * margin))
    step = round(size * 1.3)
    bar = Image.new("L", (width, min(height, step * len(lines) + 2 * margin)))
    draw = ImageDraw.Draw(bar)
    for row, line in enumerate(lines):
        draw.text((margin, margin + row * step), line, fill=255, font=font)
    return np.asarray(bar, np.float32)[..., None] / 255


@lru_cache(maxsize=4)
def _font(size: int) -> tuple[Any, bool]:
    """Return a font, and whether it has letters beyond ASCII."""
    for name in FONTS:
        with suppress(OSError, ImportError):
            return ImageFont.truetype(name, size), True
    try:
        return ImageFont.load_default(size), False
    except (TypeError, ImportError):  # Pillow below 10.1, or without FreeType: one size
        return ImageFont.load_default(), False


def _to_ascii(text: str) -> str:
    """Transliterate to ASCII: Pillow's own font draws a box for every other letter."""
    bare = unicodedata.normalize("NFKD", text.translate(_ASCII_LETTERS))
    return "".join(c for c in bare if not unicodedata.combining(c)).encode("ascii", "replace").decode()


def _wrap(text: str, font: Any, width: int) -> list[str]:
    """Break a text into lines that fit. Breaks words that are too long, and ends in "..." after MOST_LINES."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width:
            lines[-1] = longer
            continue
        if lines[-1]:
            lines.append("")
        for char in word:
            if lines[-1] and font.getlength(lines[-1] + char) > width:
                lines.append("")
            lines[-1] += char
    if len(lines) > MOST_LINES:
        lines = lines[:MOST_LINES]
        while lines[-1] and font.getlength(lines[-1] + "...") > width:
            lines[-1] = lines[-1][:-1]
        lines[-1] = lines[-1].rstrip() + "..."
    return lines
