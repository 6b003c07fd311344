"""Lists of texts in files and on the command line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vlj_edge import VljEdgeError
from vlj_edge.text_list import comma_separated, read_lines, read_texts


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"red\ngreen\n", ["red", "green"]),
        (
            b"\xef\xbb\xbfred\r\n# a comment\r\n  # another\r\n\r\n green\t light \r\nno # comment",
            ["red", "green light", "no # comment"],
        ),
        (b"red\rgreen", ["red", "green"]),
        ("rot, gr\u00fcn\nblau\u2028hell".encode(), ["rot, gr\u00fcn", "blau hell"]),
    ],
)
def test_a_file_has_a_text_a_line(tmp_path: Path, content: bytes, expected: list[str]) -> None:
    path = tmp_path / "texts"
    path.write_bytes(content)
    assert read_texts(str(path), "label") == expected


@pytest.mark.parametrize("given", ["~20 people,a dog", "~nobody here", "~\0,a"])
def test_a_text_may_begin_with_a_tilde(given: str) -> None:
    assert read_texts(given, "label") == given.split(",")


def test_a_file_of_nobody_is_missing() -> None:
    with pytest.raises(VljEdgeError, match=r"~nobody-here/labels\.txt does not exist"):
        read_texts("~nobody-here/labels.txt", "label")


def test_a_file_in_the_home_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "labels.txt").write_text("red\n")
    assert read_texts("~/labels.txt", "label") == ["red"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["no choice"]),
        (b"\xef\xbb\xbf", ["no choice"]),
        (b"# only\n\n  \n", ["no choice"]),
        (b"red\ngr\xfcn\n", ["line 2", "UTF-8"]),
        ("red\n".encode("utf-16"), ["UTF-16", "UTF-8"]),
        ("red\ngreen\n".encode("utf-16-le"), ["UTF-16", "UTF-8"]),
        (b"red\n\ngre\0en", ["line 3", "zero"]),
        (b"\xef\xbb\xbfred\n#\nblue\n  red ", ["lines 1 and 4", "'red'"]),
        (b"door  opens\nDoor opens\n", ["lines 1 and 2"]),
    ],
)
def test_a_file_that_is_no_list_is_one_line(tmp_path: Path, content: bytes, words: list[str]) -> None:
    path = tmp_path / "texts.txt"
    path.write_bytes(content)
    with pytest.raises(VljEdgeError) as caught:
        read_texts(str(path), "choice")
    for word in ["texts.txt", *words]:
        assert word in str(caught.value)


MISSING = [
    "nosuch.txt",
    "nosuch.npz",
    "no such.csv",
    "./nosuch",
    "folder/nosuch",
    "~/nosuch",
    "C:\\nosuch",
    "/nosuch/a,b.txt",
]


@pytest.mark.parametrize("given", [*MISSING, "red,nosuch.txt", "red,./nosuch", "labels.dvc", " nosuch.TXT "])
def test_what_looks_like_a_path_is_no_text(given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(VljEdgeError, match=r"no ?such|labels\.dvc|b\.txt"):
        read_texts(given, "label")


@pytest.mark.parametrize(
    "given", ["left/right,up/down", "turns on/off the lamp", "v1.5", "Dr. No", "red", "a.m., p.m.", "No. 5"]
)
def test_a_text_with_dots_and_strokes_is_a_text(given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "red").mkdir()
    assert read_texts(given, "label") == [each.strip() for each in given.split(",")]


def test_folders_pipes_and_large_files_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "folder.txt").mkdir()
    with (tmp_path / "large.mp4").open("wb") as stream:
        stream.truncate(10**12)
    for name in ("pipe.txt", "folder.txt", "large.mp4"):
        with pytest.raises(VljEdgeError, match=name):
            read_texts(str(tmp_path / name), "label")
    (tmp_path / "bank.npz").write_bytes(b"PK\x03\x04\xff\xff")
    with pytest.raises(VljEdgeError, match="--bank"):
        read_texts(str(tmp_path / "bank.npz"), "label")


def test_commas_separate(tmp_path: Path) -> None:
    assert comma_separated(" a  b ,, c,") == ["a b", "c"]
    assert len(read_texts(",".join(f"label {n}" for n in range(10_000)), "label")) == 10_000
    for given, word in (("", "no labels"), (" , ", "no labels"), ("red,blue, Red", "'Red'")):
        with pytest.raises(VljEdgeError, match=word):
            read_texts(given, "label")


def test_lines_keep_their_numbers(tmp_path: Path) -> None:
    (tmp_path / "captions.txt").write_text("#\n\na\nb\na\n")
    assert read_lines(tmp_path / "captions.txt", "caption") == [(3, "a"), (4, "b"), (5, "a")]
    with pytest.raises(VljEdgeError, match=r"none\.txt"):
        read_lines(tmp_path / "none.txt", "caption")
