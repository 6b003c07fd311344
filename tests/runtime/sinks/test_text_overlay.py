"""Text overlays are readable for any text and image."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import ImageFont

from vlj_edge.runtime.sinks.text_overlay import MOST_LINES, _font, _text_mask, _to_ascii, _wrap, with_text


def picture(width: int = 320, height: int = 240, colour: tuple[int, int, int] = (200, 60, 60)) -> np.ndarray:
    return np.full((height, width, 3), colour, np.uint8)


def test_the_caller_keeps_its_picture() -> None:
    image = picture()
    with_text(image, "a text")
    assert (image == picture()).all()


@pytest.mark.parametrize("size", [(64, 48), (320, 240), (1920, 1080), (48, 640), (5, 3)])
@pytest.mark.parametrize("text", ["Tür - öffnet sich, façade, łódź", "日本語", "x" * 500, "word " * 200])
def test_any_text_fits_any_picture(size: tuple[int, int], text: str) -> None:
    drawn = with_text(picture(*size), text)
    assert drawn.shape == (size[1], size[0], 3) and drawn.dtype == np.uint8


def test_the_text_grows_with_the_picture() -> None:
    small, large = _text_mask("a drawer", 320, 240), _text_mask("a drawer", 1920, 1080)
    assert (large > 0.5).sum() > 8 * (small > 0.5).sum()


@pytest.mark.skipif(not _font(20)[1], reason="this system has none of the fonts in text_overlay.FONTS")
def test_latin_letters_are_drawn() -> None:
    assert (_text_mask("Tür", 320, 240) != _text_mask("Tur", 320, 240)).any()
    assert (_text_mask("ü", 320, 240) != _text_mask("\ufffe", 320, 240)).any()  # which no font has


def test_without_a_font_for_them_letters_lose_their_marks(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _to_ascii("Größe, façade, łódź, naïve \u2013 日") == "Grosse, facade, lodz, naive - ?"
    monkeypatch.setattr("vlj_edge.runtime.sinks.text_overlay._font", lambda size: (ImageFont.load_default(), False))
    _text_mask.cache_clear()
    assert (_text_mask("Tür", 320, 240) == _text_mask("Tur", 320, 240)).all()
    _text_mask.cache_clear()


def test_lines_break_between_words_and_the_end_is_marked() -> None:
    font = ImageFont.load_default()
    width = 150
    text = "the robot arm reaches for the drawer"
    lines = _wrap(text, font, width)
    assert " ".join(lines) == text and len(lines) > 1
    cut = _wrap("drawer " * 50 + "x" * 100, font, width)
    assert len(cut) == MOST_LINES and cut[-1].endswith("...")
    assert "".join(_wrap("x" * 40, font, width)) == "x" * 40
    assert all(font.getlength(line) <= width for line in (*lines, *cut))
