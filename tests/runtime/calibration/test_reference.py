"""What is right at a window: annotated captions by their nearest text, or the model's own text in other words."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.runtime.calibration.streams import events, write_events
from vlj_edge.errors import VljEdgeError
from vlj_edge.runtime.calibration.events import AnnotatedEvent, read_events
from vlj_edge.runtime.calibration.figures import Figures, cut, total
from vlj_edge.runtime.calibration.reference import AnnotatedReference, OwnTextReference, captions_at
from vlj_edge.runtime.model import Model

SRT = """1
00:00:01,500 --> 00:00:04,000
a parcel is delivered
a postman comes

2
01:00:00,000 --> 01:00:02,250
rain
""".replace("\n", "\r\n")
VTT = """WEBVTT

00:01.500 --> 00:04.000 align:left
a parcel is delivered
a postman comes

1:00:00.000 --> 1:00:02.250
rain
"""
EVENTS = [
    AnnotatedEvent(1.5, 4.0, ("a parcel is delivered", "a postman comes")),
    AnnotatedEvent(3600.0, 3602.25, ("rain",)),
]


def as_json() -> str:
    listed = [{"start": e.start, "end": e.end, "captions": e.captions, "phase": "x"} for e in reversed(EVENTS)]
    return json.dumps({"seconds": 4000, "camera": "door", "events": listed})


@pytest.mark.parametrize("text", [as_json(), SRT, VTT], ids=["json", "srt", "vtt"])
def test_annotations_of_every_kind_are_the_same(text: str, tmp_path: Path) -> None:
    path = tmp_path / "events"
    path.write_bytes(text.encode())
    assert read_events(path) == EVENTS


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("{", "annotations"),
        ('{"events": []}', "no events"),
        ('{"seconds": 3}', "lacks events"),
        ('{"events": [{"start": 2, "end": 1, "captions": ["a"]}]}', "event 1"),
        ('{"events": [{"start": 0, "end": 1, "captions": []}]}', "no caption"),
        ('{"events": [{"start": 0, "end": "1", "captions": ["a"]}]}', "end"),
        ("WEBVTT\n\n", "annotations"),
        ('{"events": [{"start": 0, "end": 1, "caption": "a"}]}', "write captions in place of caption"),
        ('{"events": [{"begin": 0, "end": 1, "captions": ["a"]}]}', "write start in place of begin"),
        ('[{"start": 0, "end": 1, "captions": ["a"]}]', '{"events": [...]}'),
        ('{"segments": []}', "write events in place of segments"),
    ],
)
def test_what_is_no_annotation_is_refused_in_one_line(text: str, named: str, tmp_path: Path) -> None:
    path = tmp_path / "wrong.json"
    path.write_text(text)
    with pytest.raises(VljEdgeError) as refused:
        read_events(path)
    assert named in str(refused.value) and "wrong.json" in str(refused.value) and "\n" not in str(refused.value)


def test_annotations_that_are_not_there_and_folders_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(VljEdgeError, match=path.name):
            read_events(path)


@pytest.mark.parametrize(("name", "separator"), [("e.csv", ","), ("e.csv", ";"), ("e.tsv", "\t")])
def test_annotations_of_a_spreadsheet(name: str, separator: str, tmp_path: Path) -> None:
    rows = [["start", "end", "Captions"], ["0:01", "2,5" if separator == ";" else "2.5", "a dog|it barks"]]
    (tmp_path / name).write_text("\n".join(separator.join(row) for row in rows), encoding="utf-8-sig")
    assert read_events(tmp_path / name) == [AnnotatedEvent(1.0, 2.5, ("a dog", "it barks"))]
    for line, named in (("soon,2,a", "line 2: .*no time"), ("0,2,a,b,c", "line 2: .*cells")):
        (tmp_path / "e.csv").write_text(f"start,end,captions\n{line}\n", encoding="utf-8")
        with pytest.raises(VljEdgeError, match=named):
            read_events(tmp_path / "e.csv")
    (tmp_path / "e.csv").write_text("start,end,text\n0,1,a\n", encoding="utf-8")
    with pytest.raises(VljEdgeError, match="write captions in place of text"):
        read_events(tmp_path / "e.csv")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le"])
def test_annotations_in_utf_16_say_how_to_save_them(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "events.json").write_text(as_json(), encoding=encoding)
    with pytest.raises(VljEdgeError, match=r"events\.json is in UTF-16: save it as UTF-8"):
        read_events(tmp_path / "events.json")


def test_what_make_stream_writes_is_read(tmp_path: Path) -> None:
    assert read_events(write_events(tmp_path / "stream.json")) == events()


def test_a_text_is_right_if_the_events_own_caption_is_nearest(model: Model) -> None:
    listed = [AnnotatedEvent(0, 10, ("red",)), AnnotatedEvent(10, 20, ("blue",))]
    reference = AnnotatedReference(listed, np.array([5.0, 15.0, 25.0]), model.embed_text)
    assert [reference.judged(n) for n in range(3)] == [True, True, False]
    assert reference.agrees(0, "red") and reference.agrees(0, "a red screen") and not reference.agrees(0, "blue")
    assert reference.agrees(1, "blue screen") and not reference.agrees(1, "a red screen")
    assert not reference.agrees(0, "")


def test_other_words_for_the_models_text_are_right_and_other_things_are_not(model: Model) -> None:
    reference = OwnTextReference(["red", "green", "blue", ""], model.embed_text)
    assert reference.agrees(0, "red") and reference.agrees(0, "a red") and not reference.agrees(0, "blue")
    assert not reference.agrees(0, "") and not reference.judged(3)


def test_one_text_alone_is_compared_word_by_word(model: Model) -> None:
    reference = OwnTextReference(["red", "red"], model.embed_text)
    assert reference.agrees(0, "red") and not reference.agrees(0, "green")


def test_a_text_that_is_too_long_for_the_text_encoder_is_compared_by_its_beginning(model: Model) -> None:
    long = "red " * 50
    with pytest.raises(VljEdgeError):
        model.embed_text(long)
    reference = OwnTextReference(["red", "green", "blue"], model.embed_text)
    assert reference.agrees(0, long) and not reference.agrees(2, long)


@given(st.integers(2, 400), st.integers(1, 12), st.floats(0.1, 2))
def test_blocks_have_equal_time_and_hold_every_window(windows: int, count: int, step: float) -> None:
    blocks = cut(np.arange(windows) * step, count, longest=5.0)
    assert len(blocks.number) == len(blocks.seconds) == windows
    assert (np.diff(blocks.number) >= 0).all() and blocks.number.min() >= 0 and blocks.number.max() < count
    if windows >= 4 * count:
        spans = np.bincount(blocks.number, blocks.seconds, count)
        assert spans.max() - spans.min() <= 2.1 * step


def test_a_gap_of_a_live_source_counts_no_longer_than_a_clip() -> None:
    blocks = cut(np.array([0.0, 0.5, 1.0, 31.0, 31.5]), 1, longest=2.0)
    assert blocks.seconds.tolist() == [0.5, 0.5, 2.0, 0.5, 0.5]


def test_figures_add_up() -> None:
    both = total([Figures(60, 50, 25, 2, 10, 3), Figures(60, 0, 0, 1, 20, 3)])
    assert both.quality == 0.5 and both.texts_per_hour == 90 and both.encodes_per_minute == 15
    assert total([]).quality == 0 and both.cost_per_minute == 19.5


def test_overlapping_events_are_both_right() -> None:
    listed = [AnnotatedEvent(0, 2, ("a",)), AnnotatedEvent(1, 3, ("b",))]
    assert [captions_at(listed, time) for time in (0.5, 1.5, 3.0)] == [{"a"}, {"a", "b"}, set()]
