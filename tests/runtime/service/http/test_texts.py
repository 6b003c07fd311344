"""The texts of a source as files."""

from __future__ import annotations

import csv
import io
import json
import re
from itertools import cycle, pairwise
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

from tests.runtime.colours import NO_MEMORY
from tests.runtime.service.http.server import Camera, Serve
from tests.runtime.tiny_bundle import BLUE, GREEN, RED
from tests.runtime.words.endpoints import Answer, completion, endpoint
from tests.waiting import wait_for
from vlj_edge.results import Narration
from vlj_edge.runtime.model import Model
from vlj_edge.runtime.service.http import text_routes
from vlj_edge.runtime.service.http.broadcast import Broadcaster
from vlj_edge.runtime.service.http.text_routes import passes
from vlj_edge.runtime.service.settings import SourceSettings
from vlj_edge.runtime.service.station import Station
from vlj_edge.runtime.sinks.base import Event
from vlj_edge.runtime.video.part import Part
from vlj_edge.runtime.video.source import Source
from vlj_edge.runtime.words.settings import WordsSettings


def test_the_texts_of_a_source_are_saved_as_files(serve: Serve, cameras: dict[str, Source]) -> None:
    cameras["a camera"] = Camera([RED])
    served = serve(SourceSettings("a camera", "a camera"))
    with served.client() as client:
        wait_for(lambda: len(client.get("/api/sources/a camera/texts.json").text) > 2)
        for number, (begins, text) in enumerate([(100.0, "before"), (1.0, "=1+1"), (2.5, "one\nline")], 5):
            narration = Narration(begins - 1, begins + 1, text, "decoder")
            served.broadcaster.publish_event(Event("a camera", narration, 1e9 + number, number))
        answers = {kind: client.get(f"/api/sources/a camera/texts.{kind}") for kind in ("json", "csv", "srt")}
        assert client.get("/api/sources/other/texts.srt").status_code == 404
    assert all("attachment" in answer.headers["content-disposition"] for answer in answers.values())
    found = json.loads(answers["json"].text)
    assert [each["pass"] for each in found[-3:]] == [1, 2, 2] and not any(each["stand_in"] for each in found)
    assert found[0]["text"] == "a red screen" and found[0]["source"] == "a camera"
    assert [each["text"] for each in found[-3:]] == ["before", "=1+1", "one\nline"]
    rows = list(csv.DictReader(io.StringIO(answers["csv"].text, newline="")))
    assert len(rows) == len(found) and [row["text"] for row in rows[-3:]] == ["before", "'=1+1", "one\nline"]
    assert float(rows[-1]["event_start"]) == 2.5
    cues = re.findall(r"(\S+) --> (\S+)\n(.*)", answers["srt"].text)
    assert cues == [("00:00:01,000", "00:00:02,500", "=1+1"), ("00:00:02,500", "00:00:03,500", "one line")]


def event(number: int, begins: float, text: str, stand_in: bool = False) -> Event:
    origin: Any = "decoder" if stand_in else "words"
    return Event("hall", Narration(begins - 1, begins + 1, text, origin, stand_in=stand_in), 1e9 + number, number)


def events(*texts: tuple[float, str]) -> list[Event]:
    """Of texts such as (2.0, "?cat"), where a question mark says that it stands in."""
    return [event(number, at, text.lstrip("?"), text[0] == "?") for number, (at, text) in enumerate(texts)]


def cues(texts: list[Event]) -> list[tuple[str, str, str]]:
    return re.findall(r"(\S+) --> (\S+)\n(.*)", text_routes._srt(texts))


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ([(2, "?a"), (2, "A"), (5, "?b"), (5, "B")], ["A", "B"]),
        ([(2, "?a"), (5, "?b"), (2, "A"), (8, "?c"), (8, "C")], ["A", "b", "C"]),
        ([(2, "?a"), (5, "?b"), (7, "?c"), (2, "A"), (7, "C")], ["A", "b", "C"]),
        ([(5, "?b"), (2, "A"), (5, "B")], ["A", "B"]),  # what stood in for A was said already
        ([(2, "A"), (5, "B"), (9, "C")], ["A", "B", "C"]),
        ([], []),
        # A source that begins anew:
        ([(2, "A"), (2, "A")], ["A"]),
        ([(2, "A"), (5, "B"), (2, "C")], ["C"]),
        ([(2, "?a"), (2, "A"), (2, "?b"), (2, "B")], ["B"]),
        ([(2, "?a"), (2, "A"), (2, "?b")], ["b"]),
        ([(2, "?a"), (5, "?b"), (2, "?c"), (2, "C")], ["C"]),
        ([(2, "?a"), (5, "?b"), (2, "?c")], ["c"]),
        ([(2, "?a"), (2, "A"), (9, "?b"), (2, "?c"), (2, "C"), (9, "?d"), (9, "D")], ["C", "D"]),
        ([(2, "A"), (9, "?b"), (3, "?c"), (5, "?d"), (3, "C")], ["C", "d"]),
    ],
)
def test_subtitles_have_one_entry_a_change_in_order(texts: list[tuple[float, str]], said: list[str]) -> None:
    found = cues(events(*texts))
    assert [text for _, _, text in found] == said
    assert all(start < end for start, end, _ in found)
    assert all(first[1] <= second[0] for first, second in pairwise(found))


def test_tables_mark_what_stands_in_and_each_pass_goes_forward() -> None:
    texts = events((2, "?a"), (5, "?b"), (2, "A"), (5, "B"), (2, "?c"), (6, "?d"), (2, "C"))
    rows = list(csv.DictReader(io.StringIO(text_routes._csv("hall", texts), newline="")))
    assert [(row["pass"], row["event_start"], row["text"], row["stand_in"]) for row in rows] == [
        ("1", "2.0", "a", "true"),
        ("1", "2.0", "A", "false"),
        ("1", "5.0", "b", "true"),
        ("1", "5.0", "B", "false"),
        ("2", "2.0", "c", "true"),
        ("2", "2.0", "C", "false"),
        ("2", "6.0", "d", "true"),
    ]
    listed = text_routes._dicts("hall", texts)
    assert [each["text"] for each in listed if each["stand_in"] is False] == ["A", "B", "C"]


@pytest.mark.slow
def test_a_recording_that_is_repeated_while_a_server_answers_now_and_then(model: Model, tmp_path: Path) -> None:
    """The whole way: what is saved of a loop, with answers late, missing and in time."""
    for number in range(40):
        colour = (RED, BLUE, GREEN)[number // 8 % 3][::-1]
        PIL.Image.new("RGB", (32, 32), colour).save(tmp_path / f"{number:03}.png")
    answers = cycle([Answer(completion("late"), wait=0.8), Answer(b"no", 400), Answer(completion("soon"))])
    broadcaster = Broadcaster()
    with endpoint(lambda request: next(answers)) as server:
        words = WordsSettings(server.url, calls_per_hour=0)
        hall = SourceSettings("hall", str(tmp_path), gates=NO_MEMORY, words=words, loop=True, part=Part(0, None, 10))
        station = Station(model, [hall], on_event=broadcaster.publish_event, real_time=True)
        station.start()
        try:
            wait_for(lambda: len(passes(broadcaster.texts_of("hall"))) >= 4)
        finally:
            station.stop()
    texts = broadcaster.texts_of("hall")
    assert {event.narration.stand_in for event in texts} == {True, False}
    for each in passes(texts)[:-1]:
        begins = [event.narration.begins for event in each]
        assert begins == sorted(begins) and begins[-1] <= 4.0
        found = cues(each)
        assert len(found) == len(set(begins))
        assert all(first[0] < first[1] <= second[0] for first, second in pairwise(found))
