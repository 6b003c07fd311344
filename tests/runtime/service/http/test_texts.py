"""The texts of a source as files."""

from __future__ import annotations

import csv
import io
import json
import re

from tests.runtime.service.http.server import Camera, Serve
from tests.runtime.tiny_bundle import RED
from tests.waiting import wait_for
from vlj_edge.results import Narration
from vlj_edge.runtime.service.settings import SourceSettings
from vlj_edge.runtime.sinks.base import Event
from vlj_edge.runtime.video.source import Source


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
    assert found[0]["text"] == "a red screen" and found[0]["source"] == "a camera"
    assert [each["text"] for each in found[-3:]] == ["before", "=1+1", "one\nline"]
    rows = list(csv.DictReader(io.StringIO(answers["csv"].text, newline="")))
    assert len(rows) == len(found) and [row["text"] for row in rows[-3:]] == ["before", "'=1+1", "one\nline"]
    assert float(rows[-1]["event_start"]) == 2.5
    cues = re.findall(r"(\S+) --> (\S+)\n(.*)", answers["srt"].text)
    assert cues == [("00:00:01,000", "00:00:02,500", "=1+1"), ("00:00:02,500", "00:00:03,500", "one line")]
