from __future__ import annotations

import io
import json

import pytest

from vlj_edge.results import Narration, Totals
from vlj_edge.runtime.sinks.console import json_line, plain_line
from vlj_edge.runtime.sinks.files import SrtWriter


def said(centre: float, text: str) -> Narration:
    return Narration(centre - 1, centre + 1, text, "decoder")


@pytest.mark.parametrize(
    "centre, text, line",
    [
        (12.5, "a drawer", "  12.5 s  a drawer"),
        (1.0, " two\n\nlines ", "   1.0 s  two lines"),
        (86400.25, "x", "86400.2 s  x"),
    ],
)
def test_plain_line(centre: float, text: str, line: str) -> None:
    assert plain_line(said(centre, text)) == line


def test_json_line_is_one_line_and_comes_back() -> None:
    line = json_line(Narration(0.5, 2.5, "Tür\nzu", "memory", 0.25))
    assert "\n" not in line
    assert "ü" in line
    assert json.loads(line) == {"start": 0.5, "end": 2.5, "text": "Tür\nzu", "origin": "memory", "similarity": 0.25}


def test_totals_without_decodes_are_json() -> None:
    assert json.loads(json_line(Totals(windows=3)))["decodes_saved"] is None


def test_srt_from_centre_to_centre_and_the_last_to_the_end() -> None:
    stream = io.StringIO()
    writer = SrtWriter(stream)
    writer.add(said(1.0, "first"))
    writer.add(said(3661.0625, "second\n\nline --> arrow"))
    writer.finish(7200)
    assert stream.getvalue() == (
        "1\n00:00:01,000 --> 01:01:01,062\nfirst\n\n2\n01:01:01,062 --> 02:00:00,000\nsecond line -> arrow\n\n"
    )


def test_srt_times_round_up_into_the_next_second() -> None:
    stream = io.StringIO()
    writer = SrtWriter(stream)
    writer.add(said(1.0, "x"))
    writer.finish(59.9996)
    assert "--> 00:01:00,000" in stream.getvalue()


def test_srt_is_flushed_as_it_goes() -> None:
    flushed: list[str] = []

    class Stream(io.StringIO):
        def flush(self) -> None:
            flushed.append(self.getvalue())

    writer = SrtWriter(Stream())
    writer.add(said(1, "one"))
    writer.add(said(2, "two"))
    assert flushed == ["1\n00:00:01,000 --> 00:00:02,000\none\n\n"]


def test_srt_cue_is_never_empty_or_backwards() -> None:
    stream = io.StringIO()
    writer = SrtWriter(stream)
    writer.add(said(5, "x"))
    writer.finish(4.0)  # the video's last window may reach beyond its last frame
    assert "00:00:05,000 --> 00:00:05,001" in stream.getvalue()


def test_srt_without_texts_is_empty_and_finishing_twice_is_once() -> None:
    stream = io.StringIO()
    writer = SrtWriter(stream)
    writer.finish(3)
    assert stream.getvalue() == ""
    writer.add(said(1, "x"))
    writer.finish(3)
    writer.finish(4)
    assert stream.getvalue().count("-->") == 1
