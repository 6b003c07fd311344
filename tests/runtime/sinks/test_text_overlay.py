"""Text overlays are readable for any text and image."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import features

from vlj_edge.runtime.sinks.fonts import font_files, fonts, missing_letters, to_ascii
from vlj_edge.runtime.sinks.text_overlay import MOST_LINES, _text_mask, _wrap, with_text


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


@pytest.mark.skipif(bool(missing_letters("ü")), reason="this system has none of the fonts in fonts.PREFERRED")
def test_latin_letters_are_drawn() -> None:
    assert (_text_mask("Tür", 320, 240) != _text_mask("Tur", 320, 240)).any()
    assert (_text_mask("ü", 320, 240) != _text_mask("\ufffe", 320, 240)).any()  # which no font has


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[list[str]], None]]:
    """only([...]): the fonts of this machine are these."""

    def these(names: list[str]) -> None:
        monkeypatch.setattr("vlj_edge.runtime.sinks.fonts.font_files", lambda: iter(names))
        fonts.cache_clear()
        _text_mask.cache_clear()

    yield these
    fonts.cache_clear()
    _text_mask.cache_clear()


def test_without_a_font_for_them_letters_lose_their_marks(only: Callable[[list[str]], None]) -> None:
    only([])
    assert to_ascii("Größe, façade, łódź, naïve \u2013 日") == "Grosse, facade, lodz, naive - ?"
    assert (_text_mask("Tür", 320, 240) == _text_mask("Tur", 320, 240)).all()
    assert missing_letters("Tür 日本日") == "ü日本"


def test_what_no_font_has_is_seen_to_be_missing(only: Callable[[list[str]], None]) -> None:
    for names in ([], ["DejaVuSans.ttf"]):
        only(names)
        empty, drawn = (_text_mask(text, 320, 240).sum() for text in (" . ", "日本"))
        assert drawn > 2 * empty


def test_a_letter_is_drawn_with_a_font_that_has_it(only: Callable[[list[str]], None], tmp_path: Path) -> None:
    found = [name for name in font_files() if Path(name).name == "DejaVuSans.ttf"]
    if len(found) < 2:
        pytest.skip("needs DejaVuSans.ttf")
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    only([str(tmp_path / "broken.ttf"), found[-1]])
    runs = fonts(20).runs("aé щ e\u0301 日")
    assert "".join(text for _, text in runs)[:4] == "aé щ" and missing_letters("aéщ") == ""


@pytest.mark.skipif(not features.check("raqm") or bool(missing_letters("سلام")), reason="needs raqm and an Arabic font")
def test_arabic_is_joined_and_runs_from_right_to_left() -> None:
    word, apart = "سلام", "\u200c".join("سلام")
    letters = fonts(20)
    assert letters.length(word) != letters.length(apart)


def test_lines_break_between_words_and_the_end_is_marked() -> None:
    font = fonts(20)
    width = 200
    text = "the robot arm reaches for the drawer"
    lines = _wrap(text, font, width)
    assert " ".join(lines) == text and len(lines) > 1
    cut = _wrap("drawer " * 50 + "x" * 100, font, width)
    assert len(cut) == MOST_LINES and cut[-1].endswith("...")
    assert "".join(_wrap("x" * 40, font, width)) == "x" * 40
    assert all(font.length(line) <= width for line in (*lines, *cut))
