"""Subtitles are valid SubRip, also after an interruption."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from vlj_edge.errors import VljEdgeError
from vlj_edge.results import Narration
from vlj_edge.runtime.sinks.subtitles import SrtWriter, VttFile

from .events import event, file_size_limit


def narration(centre: float, text: str) -> Narration:
    return Narration(centre - 1, centre + 1, text, "decoder")


def test_srt_from_centre_to_centre_and_the_last_to_the_end() -> None:
    stream = io.StringIO()
    writer = SrtWriter(stream)
    writer.add(narration(1.0, "first"))
    writer.add(narration(3661.0625, "second\n\nline --> arrow"))
    writer.finish(7200)
    assert stream.getvalue() == (
        "1\n00:00:01,000 --> 01:01:01,062\nfirst\n\n2\n01:01:01,062 --> 02:00:00,000\nsecond line -> arrow\n\n"
    )


def test_srt_times_round_up_into_the_next_second() -> None:
    stream = io.StringIO()
    writer = SrtWriter(stream)
    writer.add(narration(1.0, "x"))
    writer.finish(59.9996)
    assert "--> 00:01:00,000" in stream.getvalue()


def test_srt_is_flushed_as_it_goes() -> None:
    flushed: list[str] = []

    class Stream(io.StringIO):
        def flush(self) -> None:
            flushed.append(self.getvalue())

    writer = SrtWriter(Stream())
    writer.add(narration(1, "one"))
    writer.add(narration(2, "two"))
    assert flushed == ["1\n00:00:01,000 --> 00:00:02,000\none\n\n"]


def test_srt_cue_is_never_empty_or_backwards() -> None:
    stream = io.StringIO()
    writer = SrtWriter(stream)
    writer.add(narration(5, "x"))
    writer.finish(4.0)  # the video's last window may reach beyond its last frame
    assert "00:00:05,000 --> 00:00:05,001" in stream.getvalue()


def test_srt_without_texts_is_empty_and_finishing_twice_is_once() -> None:
    stream = io.StringIO()
    writer = SrtWriter(stream)
    writer.finish(3)
    assert stream.getvalue() == ""
    writer.add(narration(1, "x"))
    writer.finish(3)
    writer.finish(4)
    assert stream.getvalue().count("-->") == 1


def test_vtt_from_centre_to_centre_and_the_last_to_its_windows_end(tmp_path: Path) -> None:
    path = tmp_path / "video.vtt"
    path.write_text("of an earlier run", encoding="utf-8")
    sink = VttFile(path)
    assert path.read_text(encoding="utf-8") == "WEBVTT\n\n"
    sink.write(event(1, "first\n\nline", 1.0))
    sink.write(event(2, 'a < b && "c" --> d', 3661.0625))
    first = "WEBVTT\n\n00:00:01.000 --> 01:01:01.062\nfirst line\n\n"
    assert path.read_text(encoding="utf-8") == first
    sink.close()
    sink.close()
    last = '01:01:01.062 --> 01:01:02.062\na &lt; b &amp;&amp; "c" --&gt; d\n\n'
    assert path.read_text(encoding="utf-8") == first + last


def test_vtt_leaves_out_empty_texts_and_no_cue_is_backwards(tmp_path: Path) -> None:
    sink = VttFile(tmp_path / "video.vtt")
    for number, (text, centre) in enumerate([(" \n", 1.0), ("x", 5.0), ("y", 4.0)]):
        sink.write(event(number, text, centre))
    sink.close()
    lines = (tmp_path / "video.vtt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if "-->" in line] == [
        "00:00:05.000 --> 00:00:05.001",
        "00:00:04.000 --> 00:00:05.000",
    ]


def test_vtt_loses_no_cue_to_a_full_disk(tmp_path: Path) -> None:
    path = tmp_path / "video.vtt"
    sink = VttFile(path)
    sink.write(event(1, "one"))
    with file_size_limit(len("WEBVTT\n\n") + 10), pytest.raises(VljEdgeError, match="free space"):
        sink.write(event(2, "two"))
    sink.write(event(2, "two"))
    sink.close()
    text = path.read_text(encoding="utf-8")
    assert text.count("WEBVTT") == 1 and text.count("-->") == 2
    assert "00:00:01.000 --> 00:00:02.000\none\n" in text and "00:00:02.000 --> 00:00:03.000\ntwo\n" in text
