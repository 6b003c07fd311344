"""Drawing a text into an image."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from .fonts import Fonts, fonts

Pixels: TypeAlias = npt.NDArray[np.uint8]

MOST_LINES = 3
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
    letters = fonts(size)
    lines = _wrap(text, letters, max(1, width - 2 * margin))
    step = round(size * 1.3)
    bar = Image.new("L", (width, min(height, step * len(lines) + 2 * margin)))
    draw = ImageDraw.Draw(bar)
    for row, line in enumerate(lines):
        at = float(margin)
        for font, part in letters.runs(line):
            draw.text((at, margin + row * step), part, fill=255, font=font)
            at += font.getlength(part)
    return np.asarray(bar, np.float32)[..., None] / 255


def _wrap(text: str, letters: Fonts, width: int) -> list[str]:
    """Break a text into lines that fit. Breaks words that are too long, and ends in "..." after MOST_LINES."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if letters.length(longer) <= width:
            lines[-1] = longer
            continue
        if lines[-1]:
            lines.append("")
        for char in word:
            if lines[-1] and letters.length(lines[-1] + char) > width:
                lines.append("")
            lines[-1] += char
        if len(lines) > MOST_LINES:
            break
    if len(lines) > MOST_LINES:
        lines = lines[:MOST_LINES]
        while lines[-1] and letters.length(lines[-1] + "...") > width:
            lines[-1] = lines[-1][:-1]
        lines[-1] = lines[-1].rstrip() + "..."
    return lines
