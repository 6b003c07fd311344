"""Answers that say that there is nothing to say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vlj_edge.errors import VljEdgeError
from vlj_edge.runtime.words.endpoint import Endpoint
from vlj_edge.runtime.words.prompt import WordsContext, is_nothing_new, prompt_for
from vlj_edge.runtime.words.settings import WordsSettings, read_prompt


@pytest.mark.parametrize(
    "text",
    [
        "nothing new",
        "Nothing new.",
        '"NOTHING_NEW"',
        "**Nothing new**",
        "Nothing new to report.",
        "Nothing new happens.",
    ],
)
def test_what_models_make_of_nothing_new(text: str) -> None:
    assert is_nothing_new(text)


@pytest.mark.parametrize("text", ["", "nothing", "Nothing new: a man walks in", "nothing new but a cat", "a new thing"])
def test_what_says_something_is_said(text: str) -> None:
    assert not is_nothing_new(text)


@pytest.mark.parametrize("field", ["{door}", "{Camera}", "{ camera }", "{camera_name}", "{time.now}", "{straße}"])
def test_a_field_that_there_is_none_of_is_refused(field: str, tmp_path: Path) -> None:
    prompt = f"What happens at {field}?"
    file = tmp_path / "prompt.txt"
    file.write_text(prompt)
    for use in (
        lambda: Endpoint("http://h/v1", prompt=prompt),
        lambda: WordsSettings("http://h/v1", prompt=prompt).words(),
        lambda: read_prompt(prompt),
        lambda: read_prompt(str(file)),
    ):
        with pytest.raises(VljEdgeError) as found:
            use()
        assert field in str(found.value) and all(f"{{{name}}}" in str(found.value) for name in ("camera", "last"))
    assert "prompt.txt" in str(found.value)


def test_braces_that_are_no_field_stay() -> None:
    context = WordsContext(0.0, 2.0, 1.0, camera="hall")
    prompt = '{camera} {{door}} {"open": {}} {} x{3} {a: 1} {{camera}}'
    assert Endpoint("http://h/v1", prompt=prompt)
    assert prompt_for(prompt, context) == 'hall {door} {"open": {}} {} x{3} {a: 1} {camera}'


@pytest.mark.parametrize("prompt", ["", " ", "\n\t"])
def test_an_empty_prompt_is_refused(prompt: str) -> None:
    for use in (read_prompt, lambda text: Endpoint("http://h/v1", prompt=text)):
        with pytest.raises(VljEdgeError, match="prompt is empty"):
            use(prompt)


@pytest.mark.parametrize(
    "text",
    [
        *("Describe.", "Why?", "yes/no", "yes/no?", "on/off", "left/right/none", "Who is at the door/gate?", "3.5"),
        *("Is that the cat.txt", "Is ./notes or ~/notes.md", "/no_think Describe it.", "@", "~nobody here", "node.js"),
        *("描述发生了什么。", "Say it.\nEnd with .txt", "a\0b.txt x", "a/" * 3000),
    ],
)
def test_a_prompt_that_looks_a_little_like_a_file_is_none(text: str) -> None:
    assert read_prompt(text) == text.strip()


@pytest.mark.parametrize(
    "name", ["hall.txt", "HALL.MD", "./hall", "../hall", "/hall", "~/hall", "@hall", "@my hall", "/my texts/hall.txt"]
)
def test_a_file_that_is_not_there_is_named(name: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(VljEdgeError, match=r"(?i)hall.* does not exist.*a space before"):
        read_prompt(name)
    assert read_prompt(f" {name}") == name


def test_a_file_that_is_there_is_read_by_any_name(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "yes").mkdir()
    for name in ("hall", "yes/no", "a hall.txt", "what is it"):
        (tmp_path / name).write_text(f"What is at {name}?")
        for given in (name, f"@{name}", f"~/{name}", f"@~/{name}", str(tmp_path / name)):
            assert read_prompt(given) == f"What is at {name}?"
        assert read_prompt(f" {name}") == name


@pytest.mark.parametrize("data", [b"\xff\xd8\xff\xe0", b"\0\0\0\1", b"Say it\x00", b"\x7fELF\x02\x01", b"", b" \n"])
def test_a_file_that_holds_no_prompt_is_named(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "hall.prompt").write_bytes(data)
    with pytest.raises(VljEdgeError, match=r"hall\.prompt"):
        read_prompt(str(tmp_path / "hall.prompt"))
