"""What is evaluated is read from folders and tables; what is wrong with it is one line that names where."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vlj_edge import VljEdgeError
from vlj_edge.runtime.evaluation.data import Clip, Data, read_data
from vlj_edge.runtime.evaluation.tables import TaskQuestion


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_a_folder_is_a_class(tmp_path: Path) -> None:
    for name in (
        "opens_the_drawer/a.mp4",
        "opens_the_drawer/b/c.MKV",
        "waves/d.avi",
        ".hidden/e.mp4",
        "waves/notes.txt",
    ):
        write(tmp_path / name, "")
    write(tmp_path / "README.txt", "")
    data = read_data(tmp_path)
    assert [(clip.video.name, clip.texts) for clip in data.clips] == [
        ("a.mp4", ("opens the drawer",)),
        ("c.MKV", ("opens the drawer",)),
        ("d.avi", ("waves",)),
    ]
    assert data.labels and data.texts == ("opens the drawer", "waves") and data.clips[0].name.endswith("a.mp4")


QUESTION = TaskQuestion("open or closed?", ("open", "closed"), 1)
ROWS = [
    {"video": "a.mp4", "start": 1, "end": 2.5, "text": "a drawer  opens"},
    {"video": "a.mp4", "start": 1, "end": 2.5, "text": "someone opens it"},
    {"video": "b.mp4", "question": "open or closed?", "choices": ["open", "closed"], "answer": "closed"},
]
CSV = """\ufeffVideo,start, end,text,question,choices,answer
a.mp4,1,2.5,a drawer  opens
a.mp4,1,2.5,someone opens it,,,

b.mp4,,,,open or closed?,{},closed
"""


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("d.jsonl", "\n".join(map(json.dumps, ROWS))),
        ("d.csv", CSV.format("open|closed")),
        ("d.csv", CSV.format('"open, closed"')),
        ("d.TSV", CSV.replace(",", "\t").format("open|closed")),
    ],
)
def test_tables_of_every_form_say_the_same(name: str, text: str, tmp_path: Path) -> None:
    data = read_data(write(tmp_path / name, text))
    a, b = tmp_path / "a.mp4", tmp_path / "b.mp4"
    texts = ("a drawer opens", "someone opens it")
    clips = (Clip(a, 1.0, 2.5, texts, ()), Clip(b, 0.0, None, (), (QUESTION,)))
    assert data == Data(clips, texts, labels=False)


@pytest.mark.parametrize(
    ("texts", "labels"),
    [("red red blue blue", True), ("red red blue green", False), ("red red red", True), ("red blue", False)],
)
def test_texts_that_come_back_are_classes(texts: str, labels: bool, tmp_path: Path) -> None:
    rows = [json.dumps({"video": f"{n}.mp4", "text": text}) for n, text in enumerate(texts.split())]
    assert read_data(write(tmp_path / "d.jsonl", "\n".join(rows))).labels is labels


def test_columns_without_a_meaning_are_named(tmp_path: Path) -> None:
    assert read_data(write(tmp_path / "d.csv", "id,video,text,strat\n1,a.mp4,red,3\n")).ignored == ("id", "strat")


Q = {"video": "a", "question": "q?", "choices": ["x", "y"], "answer": "x"}
WRONG_ROWS = {
    "no video": {"text": "red"},
    "empty video": {"video": " ", "text": "red"},
    "null": {"video": "a\0", "text": "red"},
    "nothing to say": {"video": "a"},
    "empty text": {"video": "a", "text": " "},
    "number for a text": {"video": "a", "text": 3},
    "no list": {**Q, "choices": "x,y"},
    "one choice": {**Q, "choices": ["x"]},
    "twice": {**Q, "choices": ["x", "x"]},
    "another answer": {**Q, "answer": "z"},
    "no answer": {"video": "a", "question": "q?", "choices": ["x", "y"]},
    "no question": {"video": "a", "text": "t", "choices": ["x", "y"], "answer": "x"},
    "end before start": {"video": "a", "text": "t", "start": 3, "end": 3},
    "before zero": {"video": "a", "text": "t", "start": -1},
    "a list": [1],
    "a number": 1e999,
}


@pytest.mark.parametrize("row", WRONG_ROWS.values(), ids=WRONG_ROWS)
def test_a_wrong_row_is_named_by_its_line(row: object, tmp_path: Path) -> None:
    good = json.dumps({"video": "a", "text": "red"})
    table = write(tmp_path / "d.jsonl", f"{good}\n\n{json.dumps(row)}\n")
    with pytest.raises(VljEdgeError, match=r"d\.jsonl, line 3: "):
        read_data(table)


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("d.jsonl", '{"video": "a", "text": "t"}\n{"video": \n', 2),
        ("d.jsonl", "[" * 100_000, 1),
        ("d.csv", "name,text\na,b\n", 1),
        ("d.csv", "video:text\na;b\n", 1),
        ("d.csv", "video,text,text\na,b,c\n", 1),
        ("d.csv", "video,text\na,b\nc,d,e\n", 3),
        ("d.csv", "video,text,start\na,b,soon\n", 2),
        ("d.csv", "video,text,start\na,b,nan\n", 2),
        ("d.csv", "video,text,end\na,b,inf\n", 2),
        ("d.csv", f"video,text\na,{'x' * 200_000}\n", 2),
    ],
)
def test_a_wrong_table_is_named_by_its_line(name: str, text: str, line: int, tmp_path: Path) -> None:
    with pytest.raises(VljEdgeError, match=rf"{name}, line {line}: "):
        read_data(write(tmp_path / name, text))


@pytest.mark.parametrize(("name", "raw"), [("d.csv", b"video,text\n"), ("d.csv", b""), ("d.jsonl", b"\xff\xfe\0")])
def test_a_table_that_holds_nothing(name: str, raw: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(raw)
    with pytest.raises(VljEdgeError, match=name):
        read_data(tmp_path / name)


@pytest.mark.parametrize("name", ["none.csv", "none", "video.mp4", "empty", "loose", "hollow", "same"])
def test_what_is_no_data_is_named(name: str, tmp_path: Path) -> None:
    write(tmp_path / "video.mp4", "")
    (tmp_path / "empty").mkdir()
    write(tmp_path / "loose" / "a.mp4", "")
    write(tmp_path / "hollow" / "a" / "a.mp4", "")
    (tmp_path / "hollow" / "b").mkdir()
    write(tmp_path / "same" / "a_b" / "a.mp4", "")
    write(tmp_path / "same" / "a b" / "a.mp4", "")
    with pytest.raises(VljEdgeError, match=name):
        read_data(tmp_path / name)


@pytest.mark.parametrize(("name", "separator"), [("d.csv", ","), ("d.csv", ";"), ("d.csv", "\t"), ("d.tsv", "\t")])
def test_a_table_as_a_spreadsheet_writes_it(name: str, separator: str, tmp_path: Path) -> None:
    rows = [
        ("Video", "Start", "End", "Text", "Note"),
        ("a.mp4", "1:02", "1:04.5", "a cat", "x"),
        ("b.mp4", "", "90s", "b", ""),
    ]
    table = tmp_path / name
    table.write_bytes("".join(separator.join(row) + "\r\n" for row in rows).encode("utf-8-sig"))
    data = read_data(table)
    assert [(clip.video.name, clip.start, clip.end, clip.texts) for clip in data.clips] == [
        ("a.mp4", 62.0, 64.5, ("a cat",)),
        ("b.mp4", 0.0, 90.0, ("b",)),
    ]
    assert data.ignored == ("note",)


def test_a_decimal_comma_and_times_in_json_lines(tmp_path: Path) -> None:
    table, lines = tmp_path / "data.csv", tmp_path / "data.jsonl"
    table.write_text("video;start;end;text\na.mp4;1,5;2,25;x, y\n")
    lines.write_text('{"video": "a.mp4", "start": "0:01.5", "end": 2.25, "text": "x, y"}\n')
    assert read_data(table).clips == read_data(lines).clips
    assert (read_data(table).clips[0].start, read_data(table).clips[0].end) == (1.5, 2.25)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("name", ["data.csv", "data.tsv", "data.jsonl"])
def test_utf_16_says_how_to_save_it(encoding: str, name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes("video,text\na.mp4,red\n".encode(encoding))
    with pytest.raises(VljEdgeError, match=f"{name} is in UTF-16: save it as UTF-8"):
        read_data(tmp_path / name)


def test_wrong_times_and_names_are_named_with_their_line(tmp_path: Path) -> None:
    table = tmp_path / "data.csv"
    for content, line, named in (
        ("video,start,text\na.mp4,soon,x\n", 2, "'soon'"),
        ("video,start,text\na.mp4,1:75,x\n", 2, "'1:75'"),
        ("video,start,text\na.mp4,-3,x\n", 2, "start"),
        ("video,caption\na.mp4,x\n", 2, "caption"),
        ("file;label\na.mp4;x\n", 1, "file"),
    ):
        table.write_text(content)
        with pytest.raises(VljEdgeError, match=f"line {line}: .*{named}"):
            read_data(table)


@pytest.mark.parametrize(
    ("name", "text", "written"),
    [
        ("d.csv", "video_id,text\na.mp4,x\n", "video in place of video_id"),
        ("d.csv", "File;caption\na.mp4;x\n", "video in place of file"),
        ("d.csv", "video,sentence\na.mp4,x\n", "text in place of sentence"),
        ("d.tsv", "video\tclass\na.mp4\tx\n", "text in place of class"),
        ("d.jsonl", '{"video": "a.mp4", "caption": "x"}\n', "text in place of caption"),
        ("d.jsonl", '{"video_path": "a.mp4", "text": "x"}\n', "video in place of video_path"),
        ("d.jsonl", '{"file": "a.mp4", "caption": "x"}\n', "video in place of file; write text in place of caption"),
        ("d.jsonl", '{"video": "a.mp4", "question": "x", "options": ["a", "b"]}\n', "choices in place of options"),
    ],
)
def test_names_that_others_use_are_told_apart(name: str, text: str, written: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(VljEdgeError, match=rf"{name}, line \d: .*write {written}") as found:
        read_data(tmp_path / name)
    assert str(found.value).count("video in place of") == ("video in place of" in written), "once"
